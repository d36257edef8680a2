"""What BasicSR takes for granted in an option file, checked before anything is built or written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dynq_basicsr.errors import DynqError

# Colons as in --force_yml; a key counts as missing where the section above it is absent, too.
ALWAYS = ('name', 'model_type', 'num_gpu', 'datasets', 'path')
TRAINING = ('train:total_iter', 'logger:print_freq', 'logger:save_checkpoint_freq', 'datasets:train')
TRAINING_WITH_VALIDATION = ('val:val_freq', 'val:save_img')
TESTING = ('val:save_img',)


def check_skeleton(file: str, opt: Any, is_train: bool) -> None:
    """Refuse options that would end in a bare KeyError, or in a GPU that is not there.

    Args:
        file: Name of the option file, for the message.
        opt: What it holds, overrides included.
        is_train: Whether it is meant for training.

    Raises:
        DynqError: If the file holds no mapping, or a key is missing or of the wrong kind.
    """
    if not isinstance(opt, Mapping):
        raise DynqError(f'{file}: an option file holds a mapping of options, this one holds {type(opt).__name__}.')
    required = ALWAYS + (TRAINING if is_train else TESTING)
    if is_train and opt.get('val') is not None:
        required += TRAINING_WITH_VALIDATION
    for key in required:
        _require(file, opt, key, is_train)
    for section in ('datasets', 'path'):
        _require_section(file, section, opt[section])
    for name, dataset in opt['datasets'].items():
        _require_section(file, f'datasets:{name}', dataset)
    if not isinstance(opt['name'], str):
        raise DynqError(f"{file}: 'name' must be text; put quotes around {opt['name']!r}.")
    _check_devices(file, opt['num_gpu'])


def _require(file: str, opt: Mapping, key: str, is_train: bool) -> None:
    value = opt
    for part in key.split(':'):
        if not isinstance(value, Mapping) or part not in value:
            raise DynqError(f'{file}: {key!r} is missing; {"training" if is_train else "testing"} needs it.')
        value = value[part]


def _require_section(file: str, key: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise DynqError(f'{file}: {key!r} must be a section with keys of its own; it is {value!r}.')


def _check_devices(file: str, wanted: Any) -> None:
    if wanted == 'auto':
        return
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        raise DynqError(f"{file}: 'num_gpu' must be a number of GPUs or `auto`; it is {wanted!r}.")
    if wanted and not torch.cuda.is_available():
        raise DynqError(f"{file}: 'num_gpu' is {wanted} but torch sees no CUDA device; write `num_gpu: 0` for the CPU, "
                        'or add --force_yml num_gpu=0.')
