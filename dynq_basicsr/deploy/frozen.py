"""Quantized layers as integers: what their fake-quantized twins compute, as numbers that a kernel takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.options import FLOAT_BITS
from dynq_basicsr.quantization.ranges import StepTable

WAY_OUT = 'it runs in PyTorch only'


@dataclass(frozen=True)
class Grid:
    """Integers 0 .. top of an activation; x is near ``scale * (integer - zero_point)``.

    Attributes:
        scale: float32, > 0.
        zero_point: Within 0 .. top.
        top: 2^b - 1; one less for a symmetric range.
    """

    scale: np.float32
    zero_point: int
    top: int


@dataclass(frozen=True)
class FrozenLayer:
    """A convolution or linear layer at one bit-width.

    Attributes:
        name: Its name in the backbone.
        weight: Integers as int8, or float32 where the weight is not quantized; (C_out, C_in / groups, kh, kw) or
            (C_out, C_in).
        weight_scale: float32 (C_out,); None where the weight is not quantized.
        weight_bits: 2..8 or 32.
        bias: float32 (C_out,).
        grid: Of the input; None where it is not quantized.
        stride: Of a convolution, and so the next three.
        padding: Before and behind, zeros.
        dilation: See ``nn.Conv2d``.
        groups: See ``nn.Conv2d``.
    """

    name: str
    weight: np.ndarray
    weight_scale: np.ndarray | None
    weight_bits: int
    bias: np.ndarray
    grid: Grid | None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def integer(self) -> bool:
        """Whether both operands are integers."""
        return self.grid is not None and self.weight_scale is not None

    def permuted(self, order: np.ndarray) -> FrozenLayer:
        """The layer with its output channels in another order, (C_out,) indices; not for groups."""
        scale = None if self.weight_scale is None else self.weight_scale[order]
        return replace(self, weight=self.weight[order], weight_scale=scale, bias=self.bias[order])

    def float_weight(self) -> np.ndarray:
        """The weight as the fake-quantized layer has it, float32."""
        if self.weight_scale is None:
            return self.weight
        return self.weight * self.weight_scale.reshape(-1, *[1] * (self.weight.ndim - 1))


def bits_of(layer: QuantLayer, bits: Sequence[float]) -> float:
    """Bits of a layer's input where ``bits`` are those of the adaptive layers, in module order."""
    return layer.options.activation.bits if layer.index is None else bits[layer.index]


@torch.no_grad()
def freeze_layer(layer: QuantLayer, bits: float) -> FrozenLayer:
    """Take a layer's integers.

    Args:
        layer: A quantized convolution or linear layer, on any device.
        bits: Of its input; ignored where its options leave it float.

    Raises:
        DynqError: If no integers give its numbers.
    """
    options = layer.options
    if options.weight.bits != FLOAT_BITS and options.weight.grid != 'integer':
        raise DynqError(
            f'{layer.name}: quantization.weight.grid is {options.weight.grid}, whose levels are no multiples of a step '
            f'(zero is none of them), so no integers give its numbers; {WAY_OUT}. Train with grid: integer.'
        )
    weight, scale = _weight(layer)
    return replace(
        float_layer(layer), weight=weight.cpu().numpy(), weight_scale=scale, weight_bits=options.weight.bits,
        grid=_grid(layer, bits),
    )  # fmt: skip


@torch.no_grad()
def float_layer(layer: QuantLayer) -> FrozenLayer:
    """A layer as the float layer that it was.

    Args:
        layer: See ``freeze_layer``.

    Raises:
        DynqError: If ONNX has no such convolution.
    """
    geometry = {}
    if isinstance(layer, nn.Conv2d):
        if layer.padding_mode != 'zeros' or isinstance(layer.padding, str):
            how = layer.padding if isinstance(layer.padding, str) else layer.padding_mode
            raise DynqError(f'{layer.name}: its padding ({how}) is not zeros in pixels, as in ONNX; {WAY_OUT}.')
        geometry = {key: getattr(layer, key) for key in ('stride', 'padding', 'dilation', 'groups')}
    bias = layer.bias if layer.bias is not None else layer.weight.new_zeros(len(layer.weight))
    weight, bias = (tensor.detach().float().cpu().numpy() for tensor in (layer.weight, bias))
    return FrozenLayer(layer.name, weight, None, FLOAT_BITS, bias, None, **geometry)


def _weight(layer: QuantLayer) -> tuple[torch.Tensor, np.ndarray | None]:
    bits = layer.options.weight.bits
    if bits == FLOAT_BITS:
        return layer.weight.detach(), None
    # the arithmetic of fake_quantize_weight, so that every weight is rounded alike
    high = 2.0 ** (bits - 1) - 1
    scale = layer.weight_range.upper / layer.weight.new_tensor(high)
    integers = torch.div(layer.weight_range.moved(layer.weight), scale).round_().clamp_(-high - 1, high)
    return integers.to(torch.int8), scale.flatten().expand(len(layer.weight)).cpu().numpy().copy()


def _grid(layer: QuantLayer, bits: float) -> Grid | None:
    if layer.options.activation.bits == FLOAT_BITS:
        return None
    values = layer.activation_range
    if isinstance(values, StepTable):
        low, high = (float(limit) for limit in values.limits(bits))
        return Grid(values.step(bits).cpu().numpy()[()], int(-low), int(high - low))
    if values.grid != 'integer':
        raise DynqError(
            f'{layer.name}: quantization.activation.grid is {values.grid}, whose zero point is no integer, so no '
            f'integers give its numbers; {WAY_OUT}. Train with grid: integer.'
        )
    top = 2**bits - 1
    lower, upper = values.bounds(bits)
    scale = (upper - lower) / top
    return Grid(scale.cpu().numpy()[()], int((-lower / scale).round()), int(top))
