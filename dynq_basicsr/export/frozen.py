"""Quantized layers as integers: what their fake-quantized twins compute, as numbers that a kernel takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.config.quantization import FLOAT_BITS
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.float_layers import FloatConv2d
from dynq_basicsr.quantization.layers import QuantLayer, with_norm
from dynq_basicsr.runtime.grids import Grid

WAY_OUT = 'it runs in PyTorch only'


@dataclass(frozen=True)
class FrozenLayer:
    """A convolution or linear layer at one bit-width.

    Attributes:
        name: Its name in the backbone.
        weight: Integers as int8, or float32 where the weight is not quantized; (C_out, C_in / groups, kh, kw) or
            (C_out, C_in).
        weight_scale: float32 (C_out,), of any sign where batch normalization is in it; None where the weight is not
            quantized.
        weight_bits: 2..8 or 32.
        bias: float32 (C_out,).
        grid: Of the input; None where it is not quantized.
        stride: Of a convolution, and so the next three.
        padding: Before and behind, zeros.
        dilation: See ``nn.Conv2d``.
        groups: See ``nn.Conv2d``.
        precise: A float layer that sums in float64.
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
    precise: bool = False

    @property
    def integer(self) -> bool:
        """Whether both operands are integers."""
        return self.grid is not None and self.weight_scale is not None

    @property
    def largest_sum(self) -> int:
        """The largest magnitude that the sum of integers can have."""
        operand = max(self.grid.zero_point, self.grid.top - self.grid.zero_point)
        return operand * int(np.abs(self.weight.astype(np.int64)).reshape(len(self.weight), -1).sum(axis=1).max())

    def permuted(self, order: np.ndarray) -> FrozenLayer:
        """The layer with its output channels in another order, (C_out,) indices; not for groups."""
        scale = None if self.weight_scale is None else self.weight_scale[order]
        return replace(self, weight=self.weight[order], weight_scale=scale, bias=self.bias[order])

    def float_weight(self) -> np.ndarray:
        """The weight as the fake-quantized layer has it, float32."""
        if self.weight_scale is None:
            return self.weight
        return self.weight * self.weight_scale.reshape(-1, *[1] * (self.weight.ndim - 1))


def freeze_layers(net: QuantizedSR, bits: Sequence[float]) -> dict[str, FrozenLayer]:
    """All layers that the wrapper changed, by name, at these bits of the adaptive ones; see ``freeze_layer``."""
    quantized = {layer.name: freeze_layer(layer, bits_of(layer, bits)) for layer in net.quant_layers()}
    return quantized | {layer.name: float_layer(layer) for layer in net.precise_layers()}


def grids_of(layers: Mapping[str, FrozenLayer]) -> dict[str, Grid]:
    """The grids of the layers whose input is quantized."""
    return {name: layer.grid for name, layer in layers.items() if layer.grid is not None}


def float_layers(net: QuantizedSR) -> dict[str, FrozenLayer]:
    """The same layers as they were; see ``float_layer``."""
    return {layer.name: float_layer(layer) for layer in (*net.quant_layers(), *net.precise_layers())}


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
    _check_grid(layer)
    options, floating, grid = layer.options, float_layer(layer), _grid(layer, bits)
    if options.weight.bits == FLOAT_BITS:
        return replace(floating, grid=grid)
    integers, scale, bias = layer.integer_weight()
    return replace(
        floating, weight=integers.to(torch.int8).cpu().numpy(), weight_scale=scale.float().cpu().numpy().copy(),
        weight_bits=options.weight.bits, bias=_bias(layer, bias), grid=grid,
    )  # fmt: skip


@torch.no_grad()
def float_layer(layer: QuantLayer | FloatConv2d) -> FrozenLayer:
    """A layer as the float layer that it was, with the batch normalization that it folds.

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
    weight, bias = layer.weight, layer.bias
    precise = isinstance(layer, FloatConv2d)
    if not precise and layer.folds:
        weight, bias = with_norm(layer.norm[0], weight, bias)
    weight = weight.detach().float().cpu().numpy()
    bias = _bias(layer, bias)
    return FrozenLayer(layer.name, weight, None, FLOAT_BITS, bias, None, **geometry, precise=precise)


def check_grids(net: QuantizedSR) -> None:
    """Check that integers can give the numbers of every layer.

    Raises:
        DynqError: Names the first layer whose options say otherwise.
    """
    for layer in net.quant_layers():
        _check_grid(layer)


def _check_grid(layer: QuantLayer) -> None:
    for part, options, what in (
        ('weight', layer.options.weight, 'levels are no multiples of a step (zero is none of them)'),
        ('activation', layer.options.activation, 'zero point is no integer'),
    ):
        if options.bits != FLOAT_BITS and options.grid != 'integer':
            raise DynqError(
                f'{layer.name}: quantization.{part}.grid is {options.grid}, whose {what}, so no integers give its '
                f'numbers; {WAY_OUT}. Train with grid: integer.'
            )


def _bias(layer: nn.Module, bias: torch.Tensor | None) -> np.ndarray:
    return np.zeros(len(layer.weight), np.float32) if bias is None else bias.detach().float().cpu().numpy()


def _grid(layer: QuantLayer, bits: float) -> Grid | None:
    if layer.options.activation.bits == FLOAT_BITS:
        return None
    scale, low, high = layer.activation_range.freeze(bits)
    return Grid(scale.numpy()[()], -low, high - low)
