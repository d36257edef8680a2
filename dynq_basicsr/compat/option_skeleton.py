"""What BasicSR takes for granted in an option file of any model, checked before it reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from dynq_basicsr.errors import DynqError, shown

# Colons as in --force_yml; a key counts as missing where the section above it is absent, too.
ALWAYS = ('name', 'model_type', 'num_gpu', 'datasets', 'path')
TRAINING = ('train:total_iter', 'logger:print_freq', 'logger:save_checkpoint_freq', 'datasets:train')
TRAINING_WITH_VALIDATION = ('val:val_freq', 'val:save_img')
TESTING = ('val:save_img',)


def leave_out_nulls(opt: dict) -> None:
    """Take sections that are null for absent: data sets, and ``val``, which says how to evaluate.

    Args:
        opt: What an option file holds, overrides included; changed in place.
    """
    if opt.get('val', '') is None:
        del opt['val']
    datasets = opt.get('datasets')
    if isinstance(datasets, dict):
        for name in [name for name, dataset in datasets.items() if dataset is None]:
            del datasets[name]


def check_skeleton(file: str, opt: Any, is_train: bool) -> None:
    """Refuse options that would end in a bare KeyError or TypeError, or in a GPU that is not there.

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
    datasets = opt['datasets'] if isinstance(opt['datasets'], Mapping) else {}
    sections = {key: opt[key] for key in ('datasets', 'path')}
    sections |= {key: opt[key] for key in ('train', 'val', 'logger') if opt.get(key) is not None}
    sections |= {f'datasets:{name}': dataset for name, dataset in datasets.items()}
    for key, section in sections.items():
        if not isinstance(section, Mapping):
            raise DynqError(f'{file}: {key!r} must be a section with keys of its own, not {shown(section)}.')
    texts = {'name': opt['name'], 'model_type': opt['model_type']}
    for name, dataset in datasets.items():
        texts |= {f'datasets:{name}:{key}': dataset.get(key) for key in ('dataroot_gt', 'dataroot_lq')}
    files = [key for key in opt['path'] if 'resume_state' in str(key) or 'pretrain_network' in str(key)]
    texts |= {f'path:{key}': opt['path'][key] for key in files}
    for key, text in texts.items():
        if not isinstance(text, str) and (text is not None or ':' not in key):
            raise DynqError(f'{file}: {key!r} must be text; put quotes around {shown(text)}.')
    _check_numbers(file, opt)


def _require(file: str, opt: Mapping, key: str, is_train: bool) -> None:
    value = opt
    for part in key.split(':'):
        if not isinstance(value, Mapping) or part not in value:
            raise DynqError(f'{file}: {key!r} is missing; {"training" if is_train else "testing"} needs it.')
        value = value[part]


def _check_numbers(file: str, opt: Mapping) -> None:
    seed, wanted = opt.get('manual_seed'), opt['num_gpu']
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31):
        raise DynqError(f"{file}: 'manual_seed' must be a whole number from 0 to {2**31 - 1}, not {shown(seed)}.")
    if wanted == 'auto':
        return
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        raise DynqError(f"{file}: 'num_gpu' must be a number of GPUs or `auto`, not {shown(wanted)}.")
    if wanted and not torch.cuda.is_available():
        raise DynqError(f"{file}: 'num_gpu' is {wanted} but torch sees no CUDA device; write `num_gpu: 0` for the CPU, "
                        'or add --force_yml num_gpu=0.')
