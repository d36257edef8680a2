"""Convolutions in bfloat16 within a block, everything else as it was."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode


class Bfloat16Products(TorchFunctionMode):
    """Run convolutions and linear layers in bfloat16, their results cast back.

    Unlike autocast, it keeps residual sums, normalization and quantizers in float32; products accumulate in float32,
    too. Operands and results are rounded to 8 significant bits, a relative error of about 0.004.
    """

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Intercept the calls that multiply."""
        if func in (F.conv2d, F.linear):
            args = tuple(arg.bfloat16() if isinstance(arg, torch.Tensor) else arg for arg in args)
            kwargs = {
                key: arg.bfloat16() if isinstance(arg, torch.Tensor) else arg for key, arg in (kwargs or {}).items()
            }
            return func(*args, **kwargs).float()
        return func(*args, **(kwargs or {}))


def has_fast_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == 'cpu':
        checks = (getattr(torch.cpu, name, None) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'))
        return any(check() for check in checks if check)
    return False


def products_in(precision: str, device: torch.device) -> AbstractContextManager:
    """A context for ``float32``, ``bfloat16`` or ``auto`` (bfloat16 where it is fast)."""
    if precision == 'bfloat16' or (precision == 'auto' and has_fast_bfloat16(device)):
        return Bfloat16Products()
    return nullcontext()
