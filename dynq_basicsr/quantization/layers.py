"""Quantized layers: a float layer's weight, two ranges, and bits that come from the context."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynq_basicsr.quantization.context import BitContext
from dynq_basicsr.quantization.fake_quantize import fake_quantize_weight
from dynq_basicsr.quantization.options import FLOAT_BITS, QuantizationOptions
from dynq_basicsr.quantization.ranges import ActivationRange, RangeTable, StepTable, WeightRange


class QuantLayer:
    """What quantized convolutions and linear layers have in common; mixed into the float class.

    Attributes:
        name: The layer's name in the backbone.
        index: Its number among the adaptive layers, in the backbone's module order; ``None`` for a static layer, which
            always uses the bits of its own options.
        options: Bits, granularity and grids.
        context: Shared with all layers of the network.
        activation_range: Of its input.
        weight_range: Of its weight.
    """

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
        bits, trace = self.options.activation.bits, self.context.trace
        float_input = bits == FLOAT_BITS
        if not (float_input or self.index is None):
            bits = self.context.decision(self.index, x)
        if trace is not None:
            (trace.static if self.index is None else trace.bits)[self.name] = bits
        if isinstance(bits, Tensor) and len(bits) != len(x):
            # windows of attention lie on the sample axis, sample by sample
            bits = bits.repeat_interleave(len(x) // len(bits))
        if float_input:
            return x
        with torch._C.DisableTorchFunction():  # nothing here that ``Products`` wants to see, and asking it costs time
            return self.activation_range.quantize(x, bits)


class QuantConv2d(QuantLayer, nn.Conv2d):
    """``nn.Conv2d`` with quantized weight and input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C_out, H', W'), as the float layer where the context says so."""
        if not self.context.quantizing:
            return super().forward(x)
        return self._conv_forward(self.quantized_input(x), self.quantized_weight(), self.bias)


class QuantLinear(QuantLayer, nn.Linear):
    """``nn.Linear`` with quantized weight and input; samples are the first axis."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ..., C) to (N, ..., C_out), as the float layer where the context says so."""
        if not self.context.quantizing:
            return super().forward(x)
        return torch.nn.functional.linear(self.quantized_input(x), self.quantized_weight(), self.bias)


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
    layer.name, layer.index, layer.options, layer.context = name, index, options, context
    if options.activation.quantizer == 'range':
        layer.activation_range = ActivationRange(options)
    else:
        table = RangeTable if options.activation.quantizer == 'learned_range' else StepTable
        layer.activation_range = table(candidates or (options.activation.bits,), options)
    layer.weight_range = WeightRange(layer.weight, options.weight)
    # A parameter that nothing uses gets no gradient, which DistributedDataParallel does not forgive.
    layer.activation_range.requires_grad_(options.activation.bits != FLOAT_BITS)
    layer.weight_range.requires_grad_(options.weight.bits != FLOAT_BITS)
