"""The ``train`` section of an AdaBM option file as typed, checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import cos, pi

from dynq_basicsr.errors import DynqError, check_choice, check_keys, check_number, check_switch
from dynq_basicsr.numerics.matmul import PRECISIONS
from dynq_basicsr.quantization.clipping import Clipping
from dynq_basicsr.quantization.range_rules import ACTIVATION_RULES, WEIGHT_RULES, RangeRules
from dynq_basicsr.training.compiling import check_compile
from dynq_basicsr.training.feature_matching import FEATURE_LOSSES

JOINT = 'joint'
STAGES = ('weight', 'activation', 'mapping', JOINT)
_COUNTS = ('total_iter', 'calibration_iter', 'stage_iter')
_BOUNDS = {'lr_decay': (0, 1), 'clipping_norm': (0.1, 10), 'percentile': (0, 49), 'density_mass': (0, 0.5)}
_CHOICES = {
    'precision': PRECISIONS,
    'lr_schedule': ('step', 'cosine'),
    'weight_range': WEIGHT_RULES,
    'activation_range': ACTIVATION_RULES,
}


@dataclass(frozen=True)
class LearningRates:
    """One learning rate per kind of parameter.

    Attributes:
        weight: Of weight ranges, relative to each range.
        activation: Of activation ranges, relative to each bound.
        layer: Of layer factors, bits.
        image: Of complexity thresholds, units of gradient density.
        rounding: Of weight offsets (``quantization.weight.rounding: learned``), quantization steps.
    """

    weight: float = 0.005
    activation: float = 0.005
    layer: float = 0.01
    image: float = 0.1
    rounding: float = 0.005

    def __post_init__(self) -> None:
        for item in fields(self):
            check_number(f'train.lr.{item.name}', getattr(self, item.name), 0)

    def of_policy(self, kind: str, own: float) -> float:
        """Rate of a kind of parameters of the policy; ``own``, the policy's word, where none is named here."""
        return {'layer': self.layer, 'image': self.image}.get(kind, own)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms; losses are on the 0..255 scale (AdaBM Eq. 10-13).

    Attributes:
        pixel: L1 distance of the outputs.
        feature: Distance of normalized features (L_skt).
        bit: Mean bits above ``target_bits``; in stages that learn the mapping only.
        target_bits: Where the bit loss begins; None: the base bits.
        bit_momentum: Of the running mean of bits over batches that ``target_bits`` applies to; 0: each batch by itself,
            as in the paper.
        feature_form: What ``feature`` compares: ``direction`` (AdaBM) or ``attention`` maps (PTQ4SR).
    """

    pixel: float = 1.0
    feature: float = 10.0
    bit: float = 50.0
    target_bits: float | None = None
    bit_momentum: float = 0.0
    feature_form: str = 'direction'

    def __post_init__(self) -> None:
        for key in ('pixel', 'feature', 'bit'):
            check_number(f'train.loss.{key}', getattr(self, key), 0)
        check_choice('train.loss.feature_form', self.feature_form, FEATURE_LOSSES)
        check_number('train.loss.bit_momentum', self.bit_momentum, 0, 0.999)
        if self.target_bits is not None:
            check_number('train.loss.target_bits', self.target_bits, 0)


@dataclass(frozen=True)
class AdaBMOptions:
    """What AdaBM adds to BasicSR's ``train`` section.

    Attributes:
        total_iter: Iterations of BasicSR's loop, calibration and fine-tuning together.
        calibration_iter: How many of them calibrate.
        stage_iter: Iterations after which fine-tuning goes on to the next stage.
        stages: The order of stages: ``weight`` ranges, ``activation`` ranges and bit ``mapping`` in turn, as in the
            published code (the paper's Algorithm 1 begins with the mapping), or ``joint``: all three in each iteration.
        patch_size: Side of the patches that fine-tuning sees, LR pixels: the upper left corners of those that
            calibration sees, which lie at random themselves unless the data set has ``fixed_crops``; None: whole.
        cache_teacher: Run the float network once an image instead of once a draw; wants ``fixed_crops`` of the data
            set, so that an image stays the same.
        lr: Learning rates.
        lr_schedule: ``step``, or ``cosine`` from the full rate to zero over fine-tuning.
        lr_decay: Factor after each epoch of a stage, where the schedule is ``step``.
        loss: Loss weights.
        ranges: How calibration sets ranges; its keys stand in ``train`` itself. Weight ranges always, activation ranges
            where bit-aware clipping is off.
        bit_aware_clipping: Search the clipping of each layer for its bits (BaC).
        clipping_norm: Exponent of the error that this search minimises: 2 as in the paper, 1 against outliers.
        precision: Of convolutions while fine-tuning: float32, bfloat16, or auto (bfloat16 where the CPU or GPU computes
            in it). Calibration and evaluation are float32 always.
        compile: Run the network through PyTorch's compiler while fine-tuning: true, false, or ``auto``, on a GPU
            where the run is long enough to win back the minutes that it takes.
    """

    total_iter: int
    calibration_iter: int = 50
    stage_iter: int = 50
    stages: tuple[str, ...] = ('weight', 'activation', 'mapping')
    patch_size: int | None = None
    cache_teacher: bool = False
    lr: LearningRates = field(default_factory=LearningRates)
    lr_schedule: str = 'step'
    lr_decay: float = 0.9
    loss: LossWeights = field(default_factory=LossWeights)
    ranges: RangeRules = field(default_factory=RangeRules)
    bit_aware_clipping: bool = True
    clipping_norm: float = 2.0
    precision: str = 'auto'
    compile: bool | str = 'auto'

    @property
    def clipping(self) -> Clipping:
        """How calibration finds ranges."""
        return Clipping(self.bit_aware_clipping, self.clipping_norm, self.ranges)

    @classmethod
    def from_dict(cls, train: Mapping) -> AdaBMOptions:
        """Read BasicSR's ``train`` section.

        Raises:
            DynqError: Names the key that is unknown or holds an impossible value.
        """
        given = dict(train)
        rules = [item.name for item in fields(RangeRules)]
        own = [item.name for item in fields(cls) if item.name != 'ranges']
        check_keys('train', given, [*own, *rules, 'warmup_iter'])
        given.pop('warmup_iter', None)
        if 'total_iter' not in given:
            raise DynqError('train.total_iter: missing; give the iterations of calibration and fine-tuning together.')
        _check_values(given)
        for key, part in (('lr', LearningRates), ('loss', LossWeights)):
            check_keys(f'train.{key}', given.get(key), [item.name for item in fields(part)])
            given[key] = part(**(given.get(key) or {}))
        given['stages'] = tuple(given.get('stages', cls.stages))
        given['ranges'] = RangeRules(**{key: given.pop(key) for key in rules if key in given})
        options = cls(**given)
        if options.total_iter < options.calibration_iter:
            raise DynqError(
                f'train.total_iter: {options.total_iter} iterations are fewer than the {options.calibration_iter} of '
                'calibration_iter.'
            )
        if options.bit_aware_clipping and options.ranges.activation_range != 'minmax':
            raise DynqError(
                f'train.activation_range: {options.ranges.activation_range!r} has no effect with bit-aware clipping, '
                'which searches between minimum and maximum; set train.bit_aware_clipping to false.'
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
        """Factor on the stage's learning rates; by steps, each stage counts its own finished epochs."""
        if self.lr_schedule == 'cosine':
            done = (iteration - self.calibration_iter - 1) / max(self.total_iter - self.calibration_iter, 1)
            return (1 + cos(pi * done)) / 2
        cycles, position = divmod(self._epoch(iteration), len(self.stages))
        stage = self.stages[position]
        return self.lr_decay ** (cycles * self.stages.count(stage) + self.stages[:position].count(stage))

    def _epoch(self, iteration: int) -> int:
        return (iteration - self.calibration_iter - 1) // self.stage_iter


def _check_values(given: Mapping) -> None:
    """Check the values that stand in ``train`` itself."""
    for key in _COUNTS:
        check_number(f'train.{key}', given.get(key, 1), 1, whole=True)
    for key, bounds in _BOUNDS.items():
        check_number(f'train.{key}', given.get(key, bounds[0]), *bounds)
    for key, choices in _CHOICES.items():
        check_choice(f'train.{key}', given.get(key, choices[0]), choices)
    if given.get('patch_size') is not None:
        check_number('train.patch_size', given['patch_size'], 8, whole=True)
    stages = given.get('stages', STAGES)
    if not isinstance(stages, list | tuple) or not stages or any(stage not in STAGES for stage in stages):
        raise DynqError(f'train.stages: {stages!r} must be made of {", ".join(STAGES)}.')
    for key in ('bit_aware_clipping', 'cache_teacher'):
        check_switch(f'train.{key}', given.get(key, True))
    check_compile(given.get('compile', 'auto'))
