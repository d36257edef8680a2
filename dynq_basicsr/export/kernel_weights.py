"""Weights of convolutions as matrix products want them."""

from __future__ import annotations

import numpy as np

from dynq_basicsr.export.frozen import FrozenLayer


def taps_of(width: int, joined: int) -> int:
    """Width of a kernel in groups of so many pixels, around the group that it is computed for."""
    return 2 * -(-(width // 2) // joined) + 1


def join_pixels(kernel: np.ndarray, joined: int) -> np.ndarray:
    """The kernel that does the same to groups of pixels side by side, their channels one after the other.

    Args:
        kernel: (kh, kw, C, C_out), kw odd.
        joined: How many pixels are a group.

    Returns:
        (kh, taps, joined * C, joined * C_out), zero where an output pixel does not see an input pixel.
    """
    height, width, channels, outputs = kernel.shape
    taps = taps_of(width, joined)
    whole = np.zeros((height, taps * joined, channels, joined, outputs), kernel.dtype)
    first = taps // 2 * joined - width // 2  # that the first pixel of the group sees
    for pixel in range(joined):
        whole[:, first + pixel : first + pixel + width, :, pixel] = kernel
    return whole.reshape(height, taps, joined * channels, joined * outputs)


def keeps_size(layer: FrozenLayer) -> bool:
    """Whether a convolution gives as many pixels as it reads, with the middle of the kernel on each."""
    if not all(side % 2 for side in layer.weight.shape[2:]):
        return False
    reach = tuple(spread * (side - 1) for spread, side in zip(layer.dilation, layer.weight.shape[2:], strict=True))
    return tuple(layer.stride) == (1, 1) and reach == tuple(2 * margin for margin in layer.padding)


def dense(layer: FrozenLayer) -> np.ndarray:
    """The weight of a grouped convolution as that of a plain one, zeros between groups."""
    if layer.groups == 1:
        return layer.weight
    outputs, inputs, *kernel = layer.weight.shape
    dense = np.zeros((outputs, inputs * layer.groups, *kernel), layer.weight.dtype)
    each = outputs // layer.groups
    for group in range(layer.groups):
        rows, columns = slice(group * each, (group + 1) * each), slice(group * inputs, (group + 1) * inputs)
        dense[rows, columns] = layer.weight[rows]
    return dense
