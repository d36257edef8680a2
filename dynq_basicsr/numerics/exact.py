"""Products of integers, whose sums float32 holds exactly, whatever the order of summation."""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn

from dynq_basicsr.numerics.matmul import multiply


def multiply_integers(
    layer: nn.Conv2d | nn.Linear,
    integers: Tensor,
    scale: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """What a layer computes of two operands that are integers times a scale: the integers' sum, scaled once.

    Exact below 2^24: 8-bit operands could exceed it if nearly all of them were large at once, and such a sum is rounded
    as any other.

    Args:
        layer: Its geometry.
        integers: (N, ...), whole numbers as float32.
        scale: Of the samples, (R,), N being a multiple of R.
        weight: Whole numbers as float32.
        weight_scale: Of each output channel, (C_out,), of any sign.
        bias: (C_out,); None: zero.

    Returns:
        The layer's result, float32.
    """
    sums = multiply(layer, integers, weight, None)
    if not _sums_products(sums.device):
        sums.round_()
    by_channel = (-1, 1, 1) if isinstance(layer, nn.Conv2d) else (-1,)
    if len(scale) not in (1, len(sums)):  # windows of attention lie on the sample axis, sample by sample
        scale = scale.repeat_interleave(len(sums) // len(scale))
    result = sums.mul_(scale.view(-1, *[1] * (sums.dim() - 1)) * weight_scale.view(by_channel))
    return result if bias is None else result.add_(bias.view(by_channel))


def _sums_products(device: torch.device) -> bool:
    """Whether convolutions are known to add products, instead of transforming their operands as Winograd's do."""
    return device.type == 'cpu' and platform.machine().lower() in ('x86_64', 'amd64')
