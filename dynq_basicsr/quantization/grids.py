"""Grids of quantization: a scale, and the smallest and the largest whole number that it is multiplied with.

A grid is one tensor (3, *shape), its three parts stacked along a new first axis, so that ``scale, low, high = grid``
takes it apart. Every part is a tensor even where it is the same for all: on CUDA, dividing by a Python number is
multiplication with its reciprocal, whose last bit may differ, and making a tensor of it would wait for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

GRIDS = ('integer', 'literal')
# Far below any activation that matters, yet above zero: a dead layer (all zeros) still has a range to divide by.
SMALLEST = 1e-8


def round_ste(x: Tensor) -> Tensor:
    """Round half to even, with the gradient of the identity (straight-through estimator)."""
    return x + (x.round() - x).detach()


def integer_grid(lower: Tensor, upper: Tensor, bits: Tensor | float) -> Tensor:
    """The grid that integer kernels use: an integer zero point, zero exactly representable.

    AdaBM's Eq. 1 with the zero point -l / S rounded, S = (u - l) / (2^b - 1). Differentiable in all three arguments;
    rounding of the zero point is straight-through.

    Args:
        lower: <= 0, of any shape.
        upper: >= 0, above lower: the two and ``bits`` broadcast.
        bits: Bit-width, which may be a fraction.

    Returns:
        (3, *shape).
    """
    scale, levels = _scale(lower, upper, bits)
    zero_point = round_ste(-lower / scale)
    return torch.stack((scale, -zero_point, levels - zero_point))


def literal_grid(lower: Tensor, upper: Tensor, bits: Tensor | float) -> Tensor:
    """The grid as printed in AdaBM (Eq. 1), for ``x - lower``: it starts at lower and need not contain zero.

    Args:
        lower: As in ``integer_grid``; minus the bound for a weight.
        upper: Likewise.
        bits: Likewise.

    Returns:
        (3, *shape), the smallest whole number being zero.
    """
    scale, levels = _scale(lower, upper, bits)
    return torch.stack((scale, torch.zeros_like(scale), levels.expand_as(scale)))


def weight_grid(upper: Tensor, bits: int) -> Tensor:
    """The integer grid of a weight: {-2^(b-1), ..., 2^(b-1) - 1}, so that 8 bits and fewer fit int8.

    Args:
        upper: Clipping bound, > 0, of any shape: the scale times 2^(b-1) - 1.
        bits: Bit-width, 2..8.

    Returns:
        (3, *shape).
    """
    high = torch.full_like(upper, 2.0 ** (bits - 1) - 1)
    return torch.stack((upper / high, -high - 1, high))


def snap(x: Tensor, grid: Tensor) -> Tensor:
    """The nearest points of a grid: ``scale * clamp(round(x / scale), low, high)``, without a gradient of its own.

    Args:
        x: Values.
        grid: (3, *shape), which broadcasts with x.

    Returns:
        A new tensor of the shape that both broadcast to.
    """
    scale, low, high = grid
    rounded = torch.div(x, scale).round_()
    # maximum and minimum, not clamp: clamp with broadcast bounds leaves the vectorised path
    torch.maximum(rounded, low, out=rounded)
    torch.minimum(rounded, high, out=rounded)
    return rounded.mul_(scale)


def _scale(lower: Tensor, upper: Tensor, bits: Tensor | float) -> tuple[Tensor, Tensor]:
    """(S, 2^b - 1), of one shape."""
    span = upper - lower
    levels = 2**bits - 1 if isinstance(bits, Tensor) else torch.full_like(span, 2**bits - 1)
    return span / levels, levels
