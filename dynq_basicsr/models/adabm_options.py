"""The ``train`` section of an AdaBM option file as typed, checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from dynq_basicsr.errors import DynqError, check_keys

STAGES = ('weight', 'activation', 'mapping')
PRECISIONS = ('auto', 'float32', 'bfloat16')


@dataclass(frozen=True)
class LearningRates:
    """One learning rate per kind of parameter.

    Attributes:
        weight: Of weight ranges, relative to each range.
        activation: Of activation ranges, relative to each bound.
        layer: Of layer factors, bits.
        image: Of complexity thresholds, units of gradient density.
    """

    weight: float = 0.005
    activation: float = 0.005
    layer: float = 0.01
    image: float = 0.1


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; losses are on the 0..255 scale (AdaBM Eq. 8-11).

    Attributes:
        pixel: L1 distance of the outputs.
        feature: Distance of normalized features (L_skt).
        bit: Mean bits above ``target_bits``; in the mapping stage only.
        target_bits: Where the bit loss begins; None: the base bits.
    """

    pixel: float = 1.0
    feature: float = 10.0
    bit: float = 50.0
    target_bits: float | None = None


@dataclass(frozen=True)
class AdaBMOptions:
    """What AdaBM adds to BasicSR's ``train`` section.

    Attributes:
        total_iter: Iterations of BasicSR's loop, calibration and fine-tuning together.
        calibration_iter: How many of them calibrate.
        stage_iter: Iterations after which fine-tuning goes on to the next stage.
        stages: The order of stages.
        lr: Learning rates.
        lr_decay: Factor after each epoch of a stage.
        loss: Loss weights.
        bit_aware_clipping: Search the clipping of each layer for its bits (BaC).
        precision: Of convolutions while fine-tuning: float32, bfloat16, or auto (bfloat16 where the CPU or GPU computes
            in it). Calibration and evaluation are float32 always.
    """

    total_iter: int
    calibration_iter: int = 50
    stage_iter: int = 50
    stages: tuple[str, ...] = STAGES
    lr: LearningRates = field(default_factory=LearningRates)
    lr_decay: float = 0.9
    loss: LossWeights = field(default_factory=LossWeights)
    bit_aware_clipping: bool = True
    precision: str = 'auto'

    @classmethod
    def from_dict(cls, train: Mapping) -> AdaBMOptions:
        """Read BasicSR's ``train`` section.

        Raises:
            DynqError: Names the key that is unknown or holds an impossible value.
        """
        given = dict(train)
        check_keys('train', given, [item.name for item in fields(cls)] + ['warmup_iter'])
        given.pop('warmup_iter', None)
        for key, part in (('lr', LearningRates), ('loss', LossWeights)):
            values = dict(given.get(key) or {})
            check_keys(f'train.{key}', values, [item.name for item in fields(part)])
            for name, value in values.items():
                if name != 'target_bits' and (not isinstance(value, int | float) or value < 0):
                    raise DynqError(f'train.{key}.{name}: must be a number >= 0, not {value!r}.')
            given[key] = part(**values)
        stages = tuple(given.get('stages', STAGES))
        wrong = [stage for stage in stages if stage not in STAGES]
        if wrong or not stages:
            raise DynqError(f'train.stages: {list(stages)} must be made of {", ".join(STAGES)}.')
        given['stages'] = stages
        if given.get('precision', 'auto') not in PRECISIONS:
            raise DynqError(f'train.precision: must be one of {", ".join(PRECISIONS)}, not {given["precision"]!r}.')
        for key in ('total_iter', 'calibration_iter', 'stage_iter'):
            value = given.get(key, 1)
            if not isinstance(value, int) or value < 1:
                raise DynqError(f'train.{key}: must be a whole number >= 1, not {value!r}.')
        options = cls(**given)
        if options.total_iter < options.calibration_iter:
            raise DynqError(
                f'train.total_iter: {options.total_iter} iterations are fewer than the {options.calibration_iter} of '
                'calibration_iter.'
            )
        return options

    def with_stages(self, stages: tuple[str, ...]) -> AdaBMOptions:
        """The same recipe with other stages."""
        return replace(self, stages=stages)

    def stage(self, iteration: int) -> str:
        """Stage of an iteration of the loop, counted from 1: ``calibration`` or one of ``stages``."""
        return (
            'calibration'
            if iteration <= self.calibration_iter
            else self.stages[self._epoch(iteration) % len(self.stages)]
        )

    def decay(self, iteration: int) -> float:
        """Factor on the stage's learning rates: each stage counts its own finished epochs."""
        return self.lr_decay ** (self._epoch(iteration) // len(self.stages))

    def _epoch(self, iteration: int) -> int:
        return (iteration - self.calibration_iter - 1) // self.stage_iter
