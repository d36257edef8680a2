"""Quantized layers: a float layer's weight, two ranges, and bits that come from the context."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from dynq_basicsr.quantization.context import BitContext
from dynq_basicsr.quantization.fake_quantize import (
    fake_quantize_weight,
    per_sample,
    round_to_integers,
    weight_grid,
)
from dynq_basicsr.quantization.float64 import convolve_in_float64, has_float64
from dynq_basicsr.quantization.options import FLOAT_BITS, QuantizationOptions
from dynq_basicsr.quantization.ranges import ActivationRange, RangeTable, StepTable, WeightRange


def _sums_products(device: torch.device) -> bool:
    """Whether convolutions are known to add products, instead of transforming their operands as Winograd's do."""
    return device.type == 'cpu' and platform.machine().lower() in ('x86_64', 'amd64')


def _casts(device: torch.device) -> bool:
    try:
        return torch.is_autocast_enabled(device.type)
    except TypeError:  # before PyTorch 2.4
        return torch.is_autocast_enabled() or torch.is_autocast_cpu_enabled()


class QuantLayer:
    """What quantized convolutions and linear layers have in common; mixed into the float class.

    Where no gradient is recorded, a layer whose operands are both integers times a scale multiplies the integers
    themselves and scales the sum. Float32 holds such sums exactly, whatever the order of summation: memory format,
    batch, threads and device then change no level, and integer kernels give the same numbers. (Below 2^24, that is:
    8-bit operands could exceed it if nearly all of them were large at once, and such a sum is rounded as any other.)
    Networks in half precision and autocast multiply fake-quantized operands.

    Attributes:
        name: The layer's name in the backbone.
        index: Its number among the adaptive layers, in the backbone's module order; ``None`` for a static layer, which
            always uses the bits of its own options.
        options: Bits, granularity and grids.
        context: Shared with all layers of the network.
        activation_range: Of its input.
        weight_range: Of its weight.
        norm: The batch normalization that alone reads its result (see ``fold``), in a tuple, since it is no part of the
            layer; empty: none.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ...) to the float layer's result of quantized operands, or of float ones if the context says so."""
        if not self.context.quantizing:
            return self._multiply(x, self.weight, self.bias)
        if not self.exact:
            return self._multiply(self.quantized_input(x), self.quantized_weight(), self.bias)
        bits = self._bits(x)
        with torch._C.DisableTorchFunction():
            scale, low, high = (per_sample(value, x) for value in self.activation_range.integer_grid(bits))
            integers = round_to_integers(x, scale, low, high)
            weight, weight_scale, bias = self.integer_weight()
        sums = self._multiply(integers, weight, None)
        with torch._C.DisableTorchFunction():
            if not _sums_products(sums.device):
                sums.round_()
            result = sums.mul_(scale * self._by_channel(weight_scale))
            return result if bias is None else result.add_(self._by_channel(bias))

    @property
    def exact(self) -> bool:
        """Whether it multiplies integers now."""
        if not (self.options.integer and self.context.exact):
            return False
        return self.weight.dtype.itemsize >= 4 and not _casts(self.weight.device)

    @property
    def folds(self) -> bool:
        """Whether it does what its batch normalization would do, which then does nothing."""
        return bool(self.norm) and self.exact and not self.norm[0].training

    @torch.no_grad()
    def integer_weight(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The weight as whole numbers (floating point), their scale and the bias, (C_out,) each, where it is ``exact``.

        A batch normalization that it ``folds`` is in scale and bias; the scale may be negative then.
        """
        scale, low, high = weight_grid(self.weight_range.upper, self.options.weight.bits)
        integers = round_to_integers(self.weight_range.moved(self.weight), scale, low, high)
        scale, bias = scale.flatten().expand(len(integers)), self.bias
        if self.folds:
            scale, bias = with_norm(self.norm[0], scale, bias)
        return integers, scale, bias

    def quantized_weight(self) -> Tensor:
        """The fake-quantized weight."""
        options = self.options.weight
        if options.bits == FLOAT_BITS:
            return self.weight
        gradient = self.options.rounding_gradient
        with torch._C.DisableTorchFunction():
            weight = self.weight_range.moved(self.weight)
            return fake_quantize_weight(weight, self.weight_range.upper, options.bits, options.grid, gradient)

    def quantized_input(self, x: Tensor) -> Tensor:
        """Fake-quantize the input (N, ...) at the layer's own bits, or those that the context decides a sample."""
        bits = self._bits(x)
        if self.options.activation.bits == FLOAT_BITS:
            return x
        with torch._C.DisableTorchFunction():  # nothing here that ``Products`` wants to see, and asking it costs time
            return self.activation_range.quantize(x, bits)

    def _bits(self, x: Tensor) -> Tensor | float:
        """Bits of the input, a number or one a sample; noted where the context traces."""
        bits, trace = self.options.activation.bits, self.context.trace
        if not (bits == FLOAT_BITS or self.index is None):
            bits = self.context.decision(self.index, x)
        if trace is not None:
            (trace.static if self.index is None else trace.bits)[self.name] = bits
        if isinstance(bits, Tensor) and len(bits) != len(x):
            # windows of attention lie on the sample axis, sample by sample
            bits = bits.repeat_interleave(len(x) // len(bits))
        return bits


class QuantConv2d(QuantLayer, nn.Conv2d):
    """``nn.Conv2d`` with quantized weight and input, (N, C, H, W) to (N, C_out, H', W')."""

    def _multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(x, weight, bias)

    def _by_channel(self, values: Tensor) -> Tensor:
        return values.view(-1, 1, 1)


class QuantLinear(QuantLayer, nn.Linear):
    """``nn.Linear`` with quantized weight and input, (N, ..., C) to (N, ..., C_out); samples are the first axis."""

    def _multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.linear(x, weight, bias)

    def _by_channel(self, values: Tensor) -> Tensor:
        return values


class Precise:
    """What float modules ahead of quantized layers have in common; mixed into the class of a module without parameters.

    While sums are to be exact, it computes in float64 and rounds to float32. What float32 sums in another order differs
    in the last place, which decides about one in a million roundings, and at few bits one changed level changes much.

    Attributes:
        name: The module's name in the backbone.
        context: Shared with the quantized layers of the network.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As the plain module's; anything but float32, and devices without float64, as they are."""
        if not self.context.exact or x.dtype != torch.float32 or not has_float64(x.device):
            return super().forward(x)
        return self._in_float64(x)

    def _in_float64(self, x: Tensor) -> Tensor:
        return super().forward(x.double()).float()


class PreciseConv2d(Precise, nn.Conv2d):
    """A convolution whose sums are of float64."""

    def _in_float64(self, x: Tensor) -> Tensor:
        return convolve_in_float64(self, x)


@cache
def _precise(kind: type[nn.Module]) -> type[nn.Module]:
    return PreciseConv2d if kind is nn.Conv2d else type(f'Precise{kind.__name__}', (Precise, kind), {})


def make_precise(module: nn.Module, name: str, context: BitContext) -> None:
    """Turn a float module into its ``Precise`` twin, in place.

    Args:
        module: An ``nn.Conv2d``, or any module without parameters.
        name: Its name in the backbone.
        context: The context that says when sums are to be exact.
    """
    module.__class__, module.name, module.context = _precise(type(module)), name, context


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization that leaves its work to the layer before it while that one ``folds`` it.

    Attributes:
        layer: The layer, in a tuple, since it is no part of the normalization.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x if self.layer[0].folds else super().forward(x)


def with_norm(norm: nn.BatchNorm2d, factor: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """What a layer multiplies by and adds, with the batch normalization behind it, in eval mode, in both.

    Args:
        norm: The normalization.
        factor: Weight or scale, (C_out, ...).
        bias: (C_out,); None: zero.

    Returns:
        The factor, of the same shape, and the bias.
    """
    gain = (norm.running_var + norm.eps).rsqrt()
    if norm.affine:
        gain = norm.weight * gain
    shift = -norm.running_mean * gain
    if norm.affine:
        shift = shift + norm.bias
    return factor * gain.view(-1, *[1] * (factor.dim() - 1)), shift if bias is None else bias * gain + shift


def fold(layer: QuantLayer, norm: nn.BatchNorm2d) -> None:
    """Let a quantized layer do what the batch normalization behind it does, where it multiplies integers; in place.

    Args:
        layer: The layer.
        norm: The only reader of its result.
    """
    norm.__class__ = FoldedBatchNorm2d
    layer.norm, norm.layer = (norm,), (layer,)


QUANTIZED_CLASSES = {nn.Conv2d: QuantConv2d, nn.Linear: QuantLinear}


def quantize_layer(
    layer: nn.Module,
    name: str,
    index: int | None,
    options: QuantizationOptions,
    context: BitContext,
    candidates: Sequence[int] = (),
) -> None:
    """Turn a float layer into its quantized twin, in place: same object, same parameters, same hooks.

    Args:
        layer: An ``nn.Conv2d`` or ``nn.Linear``.
        name: Its name in the backbone.
        index: Its number among the adaptive layers; ``None`` for a static one.
        options: Bits, granularity and grids.
        context: The context to ask for bits.
        candidates: Ascending bits that it can answer; empty: the layer's own.
    """
    layer.__class__ = QUANTIZED_CLASSES[type(layer)]
    layer.name, layer.index, layer.options, layer.context, layer.norm = name, index, options, context, ()
    if options.activation.quantizer == 'range':
        layer.activation_range = ActivationRange(options)
    else:
        table = RangeTable if options.activation.quantizer == 'learned_range' else StepTable
        layer.activation_range = table(candidates or (options.activation.bits,), options)
    layer.weight_range = WeightRange(layer.weight, options.weight)
    # A parameter that nothing uses gets no gradient, which DistributedDataParallel does not forgive.
    layer.activation_range.requires_grad_(options.activation.bits != FLOAT_BITS)
    layer.weight_range.requires_grad_(options.weight.bits != FLOAT_BITS)
