"""The ``train`` section of ``AdaBMModel``: calibration, then fine-tuning by stages, without ground truth."""

from __future__ import annotations

from math import cos, pi
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.ranges import RangeOptions
from dynq_basicsr.config.section import Section
from dynq_basicsr.config.training import Compile, Precision
from dynq_basicsr.config.values import MOST_ITERATIONS, Fraction, Iterations, Number, Rate, Switch, Whole, or_empty

JOINT = 'joint'
CALIBRATION = 'calibration'  # the stage before those of fine-tuning
Stage = Literal['weight', 'activation', 'mapping', 'joint']


class LearningRates(Section):
    """One learning rate a kind of parameter."""

    section: ClassVar[str] = 'train.lr'

    weight: Rate = Field(0.005, description='Of weight ranges, relative to each range.')
    activation: Rate = Field(0.005, description='Of activation ranges, relative to each bound.')
    layer: Rate = Field(0.01, description='Of layer factors, bits.')
    image: Rate = Field(0.1, description='Of complexity thresholds, units of gradient density.')
    rounding: Rate = Field(
        0.005, description='Of weight offsets (quantization.weight.rounding: learned), quantization steps.'
    )

    def of_policy(self, kind: str, own: float) -> float:
        """Rate of a kind of parameters of the policy; ``own``, the policy's word, where none is named here."""
        return {'layer': self.layer, 'image': self.image}.get(kind, own)


class LossWeights(Section):
    """Weights of the loss terms; losses are on the 0..255 scale (AdaBM Eq. 10-13)."""

    section: ClassVar[str] = 'train.loss'

    pixel: Rate = Field(1.0, description='L1 distance of the outputs.')
    feature: Rate = Field(10.0, description='Distance of normalized features.')
    bit: Rate = Field(50.0, description='Mean bits above target_bits, in stages that learn the mapping.')
    target_bits: Rate | None = Field(None, description='Mean bits where the bit loss begins; null: the base bits.')
    bit_momentum: Annotated[Number, Field(ge=0, le=0.999)] = Field(
        0.0, description='Of the mean of bits over batches that target_bits is for; 0: each batch by itself.'
    )
    feature_form: Literal['direction', 'attention'] = Field(
        'direction', description='What the feature loss compares: directions (AdaBM), or attention maps (PTQ4SR).'
    )


class AdaBMOptions(RangeOptions):
    """How AdaBM calibrates and fine-tunes."""

    section: ClassVar[str] = 'train'

    total_iter: Iterations = Field(description='Iterations of calibration and fine-tuning together.')
    warmup_iter: Annotated[Whole, Field(ge=-1, le=MOST_ITERATIONS)] = Field(
        -1, description="BasicSR's; has no effect here."
    )
    calibration_iter: Iterations = Field(50, description='How many iterations calibrate.')
    stage_iter: Iterations = Field(50, description='Iterations after which fine-tuning goes on to the next stage.')
    stages: tuple[Stage, ...] = Field(
        ('weight', 'activation', 'mapping'),
        min_length=1,
        description='Order of stages: weight ranges, activation ranges and bit mapping in turn, as in the published '
        "code (the paper's Algorithm 1 begins with the mapping), or joint: all three in each iteration.",
    )
    patch_size: Annotated[Whole, Field(ge=8)] | None = Field(
        None,
        description='Side of the patches that fine-tuning sees, LR pixels: upper left corners of those that '
        'calibration sees; null: these as they are.',
    )
    cache_teacher: Switch = Field(
        False,
        description='Run the float network once an image instead of once a draw; wants fixed_crops of the data set.',
    )
    lr: or_empty(LearningRates) = Field(LearningRates(), description='Learning rates.')
    lr_schedule: Literal['step', 'cosine'] = Field(
        'step', description='Fall after each epoch of a stage, or from the full rate to zero over fine-tuning.'
    )
    lr_decay: Fraction = Field(0.9, description='Factor after each epoch of a stage, where the schedule is step.')
    loss: or_empty(LossWeights) = Field(LossWeights(), description='Loss weights.')
    bit_aware_clipping: Switch = Field(
        True, description='Search the clipping of each activation for its bits (BaC); false: activation_range.'
    )
    clipping_norm: Annotated[Number, Field(ge=0.1, le=10)] = Field(
        2.0, description='Exponent of the error that this search minimises: 2 as in the paper, 1 against outliers.'
    )
    precision: Precision = Field(
        'auto',
        description='Of convolutions while fine-tuning; auto: bfloat16 where the hardware computes in it. Calibration '
        'and evaluation are float32 always.',
    )
    compile: Compile = Field(
        'auto', description="Fine-tune through PyTorch's compiler; auto: on a GPU, where the run is long enough."
    )

    @model_validator(mode='after')
    def _check(self) -> Self:
        if self.total_iter < self.calibration_iter:
            raise wrong(
                'total_iter',
                f'{self.total_iter} iterations are fewer than the {self.calibration_iter} of calibration_iter.',
            )
        if self.bit_aware_clipping and self.activation_range != 'minmax':
            raise wrong(
                'activation_range',
                f'{self.activation_range!r} has no effect with bit-aware clipping, which searches between minimum and '
                'maximum; set train.bit_aware_clipping to false.',
            )
        return self

    def with_stages(self, stages: tuple[str, ...]) -> AdaBMOptions:
        """The same recipe with other stages."""
        return self.model_copy(update={'stages': stages})

    def stage(self, iteration: int) -> str:
        """Stage of an iteration of the loop, counted from 1: ``calibration`` or one of ``stages``."""
        if iteration <= self.calibration_iter:
            return CALIBRATION
        return self.stages[self._epoch(iteration) % len(self.stages)]

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
