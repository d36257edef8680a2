"""Repairs of BasicSR's base model that have nothing to do with devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from torch.optim import Optimizer

from dynq_basicsr.errors import DynqError, nearest, shown


def optimizer_is_not_supported() -> None:
    """Let option files name any of torch's optimizers.

    Symptom: ``NotImplementedError: optimizer AdamW is not supperted yet.``
    Cause: BasicSR 1.4.2 knows Adam only.
    Cure: look the name up in ``torch.optim``.
    """
    BaseModel.get_optimizer = _get_optimizer


def optimizers() -> dict[str, type[Optimizer]]:
    """What option files can name."""
    return {name: value for name, value in vars(torch.optim).items()
            if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer}


def _get_optimizer(self: BaseModel, optim_type: str, params: Iterable, lr: float, **kwargs: Any) -> Optimizer:
    return make_optimizer(optim_type, params, lr, **kwargs)


def make_optimizer(kind: str, params: Iterable, lr: float, **options: Any) -> Optimizer:
    """Make an optimizer.

    Args:
        kind: Its name.
        params: What it changes.
        lr: Learning rate.
        **options: Further arguments of its class.

    Raises:
        DynqError: If there is none of that name, or it refuses its arguments.
    """
    known = optimizers()
    if kind not in known:
        raise DynqError(f'optimizer type {shown(kind)} is none of torch.optim.{nearest(kind, known)}')
    try:
        return known[kind](params, lr=lr, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DynqError(f'optimizer {kind}: {error}.') from error
