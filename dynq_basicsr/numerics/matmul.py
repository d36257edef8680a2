"""How convolutions and linear layers multiply: in which precision, and by the faster of two ways."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynq_basicsr.numerics.polyphase import pays, polyphase_conv2d

PRECISIONS = ('auto', 'float32', 'bfloat16')  # what ``matmul_dtype`` takes


def multiply(
    layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype | None = None
) -> Tensor:
    """What a layer computes of these operands.

    Unlike autocast, a precision of its own leaves residual sums, normalization and quantizers in float32: operands are
    cast and so is the result. In bfloat16, operands and results are rounded to 8 significant bits, a relative error of
    about 0.004; sums are of float32. Convolutions with few output channels run as ``polyphase_conv2d`` where that is
    faster.

    Args:
        layer: Its geometry.
        x: (N, ...), float32 or ``dtype``.
        weight: Likewise.
        bias: Likewise, (C_out,); None: zero.
        dtype: Of the operands; None: as they come.

    Returns:
        The result, in float32 where ``dtype`` is given, else in x's.
    """
    if dtype is not None:
        x, weight = x.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if isinstance(layer, nn.Linear):
        result = F.linear(x, weight, bias)
    elif (
        layer.groups == 1
        and layer.padding_mode == 'zeros'
        and pays(x, weight, layer.stride, layer.padding, layer.dilation)
    ):
        result = polyphase_conv2d(x, weight, bias)
    else:
        result = layer._conv_forward(x, weight, bias)
    return result if dtype is None else result.float()


def has_fast_bfloat16(device: torch.device) -> bool:
    """True where the hardware multiplies bfloat16 faster than float32."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == 'cpu':
        checks = (getattr(torch.cpu, name, None) for name in ('_is_avx512_bf16_supported', '_is_amx_tile_supported'))
        return any(check() for check in checks if check)
    return False


def matmul_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype that operands are cast to: bfloat16, or None for float32 as it is.

    Args:
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where it is fast.
        device: Where the network runs.
    """
    fast = precision == 'bfloat16' or (precision == 'auto' and has_fast_bfloat16(device))
    return torch.bfloat16 if fast else None
