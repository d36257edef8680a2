"""BasicSR's ``train`` section: loss, optimizer and schedule."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.section import Section, by_type
from dynq_basicsr.config.values import MOST_ITERATIONS, Count, Fraction, Iterations, Means, Rate, Switch, Text, Whole

Precision = Literal['auto', 'float32', 'bfloat16']
Compile = Annotated[Switch | Literal['auto'], Means('auto, true or false')]


class OptimizerOptions(Section):
    """An optimizer of ``torch.optim``; its constructor says which further options it takes."""

    model_config = ConfigDict(extra='allow')
    section: ClassVar[str] = 'train.optim_g'

    type: Text = Field(description='Class of torch.optim, as Adam or AdamW.')
    lr: Rate = Field(description='Learning rate of the weights.')


class LossOptions(Section):
    """A registered loss; its constructor says which further options it takes."""

    model_config = ConfigDict(extra='allow')
    section: ClassVar[str] = 'train.pixel_opt'

    type: Text = Field(description='Name of a registered loss, as L1Loss.')
    loss_weight: Rate = Field(1.0, description='Factor on the loss.')
    reduction: Literal['mean', 'sum'] = Field('mean', description='How the loss of pixels becomes one number.')


class MultiStepOptions(Section):
    """The learning rate falls at milestones."""

    section: ClassVar[str] = 'train.scheduler'

    type: Literal['MultiStepLR', 'MultiStepRestartLR'] = Field(description='The learning rate falls at milestones.')
    milestones: tuple[Count, ...] = Field(description='Iterations at which it falls.')
    gamma: Rate = Field(0.1, description='Factor at each milestone.')
    restarts: tuple[Count, ...] = Field((0,), description='Iterations at which it begins anew.')
    restart_weights: tuple[Rate, ...] = Field((1,), description='Factor on the first rate at each restart.')

    @model_validator(mode='after')
    def _check(self) -> Self:
        if len(self.restarts) != len(self.restart_weights):
            raise wrong('restart_weights', f'give one for each of the {len(self.restarts)} restarts.')
        return self


class CosineOptions(Section):
    """The learning rate falls along cosines."""

    section: ClassVar[str] = 'train.scheduler'

    type: Literal['CosineAnnealingRestartLR'] = Field(description='The learning rate falls along cosines.')
    periods: tuple[Iterations, ...] = Field(
        min_length=1, description='Iterations of each cosine; together at least total_iter.'
    )
    restart_weights: tuple[Rate, ...] = Field((1,), description='Factor on the first rate in each cosine.')
    eta_min: Rate = Field(0, description='Rate at the end of each cosine.')

    @model_validator(mode='after')
    def _check(self) -> Self:
        if len(self.periods) != len(self.restart_weights):
            raise wrong('restart_weights', f'give one for each of the {len(self.periods)} periods.')
        return self


class TrainOptions(Section):
    """How a network is trained with ground truth."""

    section: ClassVar[str] = 'train'

    total_iter: Iterations = Field(description='Iterations of the training.')
    warmup_iter: Annotated[Whole, Field(ge=-1, le=MOST_ITERATIONS)] = Field(
        -1, description='Iterations in which the learning rate rises to its value; -1: none.'
    )
    ema_decay: Fraction = Field(0, description='What the averaged network keeps of itself in an iteration; 0: none.')
    optim_g: OptimizerOptions = Field(description='The optimizer.')
    scheduler: by_type(MultiStepOptions, CosineOptions) = Field(description='How the learning rate falls.')
    pixel_opt: LossOptions | None = Field(None, description='Loss of pixels; this one, the next or both.')
    perceptual_opt: LossOptions | None = Field(None, description="Loss of features, as BasicSR's PerceptualLoss.")

    @model_validator(mode='after')
    def _check_parts(self) -> Self:
        if self.pixel_opt is None and self.perceptual_opt is None:
            raise wrong('pixel_opt', 'missing; name a loss, as {type: L1Loss}.')
        if isinstance(self.scheduler, CosineOptions) and sum(self.scheduler.periods) < self.total_iter:
            raise wrong(
                'scheduler.periods',
                f'together {sum(self.scheduler.periods)} iterations, fewer than the {self.total_iter} of '
                'train.total_iter; make them as many.',
            )
        return self
