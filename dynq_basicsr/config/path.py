"""``path``: checkpoints to begin with or to go on from."""

from __future__ import annotations

import os
from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.section import Section, facts_of
from dynq_basicsr.config.values import Patterns, Text
from dynq_basicsr.errors import PATH, shown


class PathOptions(Section):
    """Files of checkpoints and training states."""

    section: ClassVar[str] = 'path'

    pretrain_network_g: Text | None = Field(None, description='Checkpoint to load; null: none.')
    param_key_g: Text | None = Field(
        'params', description='Section of the checkpoint to prefer, as params_ema; null: the file itself.'
    )
    strict_load_g: Literal[True] = Field(True, description='Checkpoints must always fit in full.')
    resume_state: Text | None = Field(None, description='Training state to go on from; null: none.')
    ignore_resume_networks: Patterns = Field((), description='Networks that are not to be resumed.')

    @field_validator('pretrain_network_g')
    @classmethod
    def _check_file(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and facts_of(info).files and not os.path.isfile(os.path.expanduser(value)):
            raise wrong('', f'no checkpoint at {shown(value, PATH)}; correct the path.')
        return value
