"""How products are computed within a block: in bfloat16 where asked, by the faster of two ways."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dynq_basicsr.models.polyphase import pays, polyphase_conv2d

PRECISIONS = ('auto', 'float32', 'bfloat16')  # what ``products_in`` takes


class Products(TorchFunctionMode):
    """Runs convolutions and linear layers in a precision of its own, their results cast back.

    Unlike autocast, it keeps residual sums, normalization and quantizers in float32; products accumulate in float32,
    too. In bfloat16, operands and results are rounded to 8 significant bits, a relative error of about 0.004.
    Convolutions with few output channels run as ``polyphase_conv2d`` where that is faster.

    Args:
        dtype: Of operands and results; None: as they come.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Intercept the calls that multiply."""
        kwargs = kwargs or {}
        if func not in (F.conv2d, F.linear):
            return func(*args, **kwargs)
        if self.dtype is None:
            return _conv2d(*args, **kwargs) if func is F.conv2d else func(*args, **kwargs)
        args = [self._cast(arg) for arg in args]
        kwargs = {key: self._cast(arg) for key, arg in kwargs.items()}
        return (_conv2d if func is F.conv2d else func)(*args, **kwargs).float()

    def _cast(self, argument: object) -> object:
        return argument.to(self.dtype) if isinstance(argument, Tensor) else argument


def _conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1) -> Tensor:  # noqa: A002 (F.conv2d's)
    if groups == 1 and pays(input, weight, stride, padding, dilation):
        return polyphase_conv2d(input, weight, bias)
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def has_fast_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == 'cpu':
        checks = (getattr(torch.cpu, name, None) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'))
        return any(check() for check in checks if check)
    return False


def products_in(precision: str, device: torch.device) -> Products:
    """A context for ``float32``, ``bfloat16`` or ``auto`` (bfloat16 where it is fast)."""
    fast = precision == 'bfloat16' or (precision == 'auto' and has_fast_bfloat16(device))
    return Products(torch.bfloat16 if fast else None)
