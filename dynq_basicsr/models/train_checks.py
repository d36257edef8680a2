"""BasicSR's own ``train`` section, checked before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping

import torch
from basicsr.models import lr_scheduler
from basicsr.utils.registry import LOSS_REGISTRY

from dynq_basicsr.errors import DynqError, check_keys, check_number, nearest

_SCHEDULERS = {
    'MultiStepLR': lr_scheduler.MultiStepRestartLR,
    'MultiStepRestartLR': lr_scheduler.MultiStepRestartLR,
    'CosineAnnealingRestartLR': lr_scheduler.CosineAnnealingRestartLR,
}
_LOSSES = ('pixel_opt', 'perceptual_opt')
TRAIN_KEYS = ('total_iter', 'warmup_iter', 'ema_decay', 'optim_g', 'scheduler', *_LOSSES)


def check_train(train: Mapping, known: Iterable[str] = TRAIN_KEYS) -> None:
    """Check the section that ``SRModel`` trains by.

    Args:
        train: The section.
        known: Keys that may stand in it; a model with options of its own adds theirs.

    Raises:
        DynqError: Names the key, and what it may be.
    """
    check_keys('train', train, known)
    check_number('train.total_iter', train.get('total_iter'), 1, whole=True)
    check_number('train.warmup_iter', train.get('warmup_iter', -1), -1, whole=True)
    check_number('train.ema_decay', train.get('ema_decay', 0), 0, 1)
    _check_part('train.optim_g', train.get('optim_g'), vars(torch.optim))
    check_number('train.optim_g.lr', train['optim_g'].get('lr'), 0)
    _check_part('train.scheduler', train.get('scheduler'), _SCHEDULERS)
    losses = [key for key in _LOSSES if train.get(key)]
    if not losses:
        raise DynqError('train.pixel_opt: missing; name a loss, as {type: L1Loss}.')
    for key in losses:
        _check_part(f'train.{key}', train[key], dict(iter(LOSS_REGISTRY)))


def _check_part(section: str, options: object, classes: Mapping[str, type]) -> None:
    """Check one part, ``{type: ..., further arguments of that class}``."""
    kind = options.get('type') if isinstance(options, Mapping) else None
    if not isinstance(kind, str) or not isinstance(classes.get(kind), type):
        names = [name for name, one in classes.items() if isinstance(one, type)]
        raise DynqError(f'{section}.type: {kind!r} is not known.{nearest(kind, names) or " Give it as {type: ...}."}')
    # the first argument of optimizers and schedulers is what they work on
    known = [name for name in inspect.signature(classes[kind]).parameters if name not in ('params', 'optimizer')]
    check_keys(section, options, ['type', *known])
