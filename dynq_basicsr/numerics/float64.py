"""Convolution with sums in float64, which PyTorch's own kernel for CPUs takes its time for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# From here on, matrix products of pixels and one tap each are faster than PyTorch's kernel.
_MANY_CHANNELS, _FEW_TAPS = 16, 25


def has_float64(device: torch.device) -> bool:
    """Whether a device computes in float64 at all."""
    return device.type not in ('mps', 'xpu')


def convolve_in_float64(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of (N, C, H, W), summed in float64 and rounded to the dtype of x.

    Args:
        layer: Gives weight, bias and geometry.
        x: The input.
    """
    weight, bias = layer.weight.double(), None if layer.bias is None else layer.bias.double()
    taps = weight[0, 0].numel()
    if taps <= _FEW_TAPS and layer.in_channels >= _MANY_CHANNELS and _is_plain(layer):
        return _by_taps(x, weight, bias)
    return layer._conv_forward(x.double(), weight, bias).to(x.dtype)


def _is_plain(layer: nn.Conv2d) -> bool:
    """Whether it has stride 1 and keeps the size, with zeros around the image, and neither dilation nor groups."""
    keeps = layer.padding == tuple(side // 2 for side in layer.kernel_size) and all(s % 2 for s in layer.kernel_size)
    return keeps and layer.stride == layer.dilation == (1, 1) and layer.groups == 1 and layer.padding_mode == 'zeros'


def _by_taps(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Sum of one matrix product a tap, each of the padded pixels in one row after the other, shifted by the tap.

    Sample by sample, since buffers that stay in the cache are worth more than larger products.
    """
    samples, channels, height, width = x.shape
    outputs, _, tall, wide = weight.shape
    line = width + wide - 1
    padded = weight.new_zeros(height + tall - 1, line, channels)
    inside, pixels = padded[tall // 2 :, wide // 2 :][:height, :width], padded.view(-1, channels)
    count = len(pixels) - (tall - 1) * line - (wide - 1)  # those after it begin outside of the image
    every = weight.new_empty(len(pixels), outputs)
    taps, start = weight.permute(2, 3, 1, 0).contiguous(), weight.new_zeros(outputs) if bias is None else bias
    result = x.new_empty(samples, height, width, outputs)
    for sample in range(samples):
        inside.copy_(x[sample].permute(1, 2, 0))
        sums = start
        for row in range(tall):
            for column in range(wide):
                shift = row * line + column
                sums = torch.addmm(sums, pixels[shift : shift + count], taps[row, column], out=every[:count])
        result[sample] = every.view(-1, line, outputs)[:height, :width]
    result = result.permute(0, 3, 1, 2)
    return result if x.is_contiguous(memory_format=torch.channels_last) else result.contiguous()
