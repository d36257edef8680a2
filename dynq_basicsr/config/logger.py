"""``logger``: what a training tells, and how often it saves."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, ValidationInfo, model_validator
from typing_extensions import Self

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.section import Section, facts_of
from dynq_basicsr.config.values import Positive, Switch, Text, is_installed


class WandbOptions(Section):
    """Weights & Biases."""

    section: ClassVar[str] = 'logger.wandb'

    project: Text | None = Field(None, description='Name of the project; null: nothing is sent.')
    resume_id: Text | None = Field(None, description='Id of the run to go on with.')


class LoggerOptions(Section):
    """Log, checkpoints, TensorBoard."""

    section: ClassVar[str] = 'logger'

    print_freq: Positive = Field(None, description='Iterations between two lines of the log.')
    save_checkpoint_freq: Positive = Field(None, description='Iterations between two checkpoints.')
    use_tb_logger: Switch = Field(False, description='Whether TensorBoard gets the figures; wants its package.')
    wandb: WandbOptions | None = Field(None, description='Weights & Biases; wants use_tb_logger and its package.')

    @model_validator(mode='after')
    def _check(self, info: ValidationInfo) -> Self:
        sends = self.wandb is not None and self.wandb.project is not None
        if sends and not self.use_tb_logger:
            raise wrong('wandb.project', 'BasicSR sends nothing without logger.use_tb_logger: true; set that, too.')
        wanted = {'use_tb_logger': (self.use_tb_logger, 'tensorboard', 'false'), 'wandb.project': (sends, 'wandb', '~')}
        for key, (on, package, off) in wanted.items():
            if on and facts_of(info).is_train and not is_installed(package):
                raise wrong(key, f'needs the package {package}; `pip install {package}`, or set it to {off}.')
        return self
