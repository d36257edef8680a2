"""Convolutions with few output channels, computed on a grid of half the resolution."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FACTOR = 2
# CPU kernels work on 16 output channels at a time, so one with 3 wastes four fifths of its products. Moving 2 x 2
# pixels into channels costs a fifth of a 9 x 9 convolution, and more than all of a 3 x 3 one.
LEAST_INPUTS, MOST_OUTPUTS, LEAST_KERNEL = 16, 4, 5


def pays(x: Tensor, weight: Tensor, stride: int | tuple, padding: int | tuple | str, dilation: int | tuple) -> bool:
    """True where ``polyphase_conv2d`` computes the same and, on the CPUs measured, mostly in less time.

    Args:
        x: Input of the convolution, (N, C, H, W).
        weight: Its weight, (C_out, C / groups, k, k).
        stride: As ``F.conv2d`` takes it.
        padding: Likewise.
        dilation: Likewise.
    """
    side = weight.shape[-1]
    return (
        x.device.type == 'cpu'
        and x.dim() == 4
        and weight.shape[0] <= MOST_OUTPUTS
        and LEAST_INPUTS <= weight.shape[1] == x.shape[1]
        and weight.shape[2] == side
        and side >= LEAST_KERNEL
        and side % 2 == 1
        and padding in (side // 2, (side // 2, side // 2))
        and stride in (1, (1, 1))
        and dilation in (1, (1, 1))
        and x.shape[2] % FACTOR == x.shape[3] % FACTOR == 0
    )


def polyphase_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.conv2d`` with stride 1 and padding k // 2, equal up to the rounding of its sums.

    An output pixel of phase (a, b) = (row % 2, column % 2) sees the four phases of the input through a kernel of its
    own, the given one shifted by (a, b): so the convolution is one of four times the channels, in and out, on the grid
    of half the resolution (the polyphase identity of multirate filters).

    Args:
        x: (N, C, H, W), H and W even.
        weight: (C_out, C, k, k), k odd.
        bias: (C_out,), or None.

    Returns:
        (N, C_out, H, W).
    """
    (samples, channels, height, width), (outputs, _, side, _) = x.shape, weight.shape
    pixels = x.permute(0, 2, 3, 1).reshape(samples, height // FACTOR, FACTOR, width // FACTOR, FACTOR, channels)
    phases = pixels.permute(0, 1, 3, 2, 4, 5).flatten(3).permute(0, 3, 1, 2)
    reach = -(-(side // 2) // FACTOR)
    taps = 2 * reach + 1
    # (phase of the output, C_out, C, taps, phase, taps, phase) -> (C_out, phase of the output, (phases, C), taps, taps)
    kernels = torch.stack(
        [
            F.pad(weight, (*_margins(right, side, reach), *_margins(down, side, reach)))
            for down in range(FACTOR)
            for right in range(FACTOR)
        ]
    ).view(FACTOR**2, outputs, channels, taps, FACTOR, taps, FACTOR)
    kernels = kernels.permute(1, 0, 4, 6, 2, 3, 5).reshape(outputs * FACTOR**2, -1, taps, taps)
    bias = None if bias is None else bias.repeat_interleave(FACTOR**2)
    return F.pixel_shuffle(F.conv2d(phases, kernels, bias, padding=reach), FACTOR)


def _margins(shift: int, side: int, reach: int) -> tuple[int, int]:
    before = FACTOR * reach - side // 2 + shift
    return before, FACTOR * (2 * reach + 1) - side - before
