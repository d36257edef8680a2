"""Repairs of BasicSR's base model that have nothing to do with devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from torch.optim import Optimizer

from dynq_basicsr.errors import DynqError, nearest


def optimizer_is_not_supported() -> None:
    """Let option files name any of torch's optimizers.

    Symptom: ``NotImplementedError: optimizer AdamW is not supperted yet.``
    Cause: BasicSR 1.4.2 knows Adam only.
    Cure: look the name up in ``torch.optim``.
    """
    BaseModel.get_optimizer = _get_optimizer


def _get_optimizer(self: BaseModel, optim_type: str, params: Iterable, lr: float, **kwargs: Any) -> Optimizer:
    known = {name: value for name, value in vars(torch.optim).items()
             if isinstance(value, type) and issubclass(value, Optimizer) and value is not Optimizer}
    if optim_type not in known:
        raise DynqError(f'optimizer type {optim_type!r} is none of torch.optim.{nearest(optim_type, known)}')
    try:
        return known[optim_type](params, lr=lr, **kwargs)
    except (TypeError, ValueError) as error:
        raise DynqError(f'optimizer {optim_type}: {error}.') from error
