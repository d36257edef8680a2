"""Quantized layers: a float layer's weight, two quantizers, and a grid that comes from the run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynq_basicsr.config.quantization import FLOAT_BITS, QuantizationOptions
from dynq_basicsr.numerics.exact import multiply_integers
from dynq_basicsr.numerics.fake_quantize import round_to_integers
from dynq_basicsr.numerics.matmul import multiply
from dynq_basicsr.numerics.quantized_product import fuses, multiply_quantized
from dynq_basicsr.quantization.quantizers import QUANTIZERS
from dynq_basicsr.quantization.run import Mode, Run, RunHolder
from dynq_basicsr.quantization.weights import WeightRange, quantize_weights


class QuantLayer:
    """What quantized convolutions and linear layers have in common; mixed into the float class.

    In ``Mode.EXACT``, a layer whose operands are both integers times a scale multiplies the integers themselves and
    scales the sum (``numerics.exact``): memory format, batch, threads and device then change no level, and integer
    kernels give the same numbers. Networks in half precision multiply fake-quantized operands.

    Attributes:
        name: The layer's name in the backbone.
        position: Its number among the quantized layers, in the backbone's module order.
        index: Its number among the adaptive layers, likewise; ``None`` for a static layer, which always uses the bits
            of its own options.
        options: Bits, granularity and grids.
        holder: Shared with all layers of the network: knows the run in progress.
        activation_range: Quantizer of its input.
        weight_range: Of its weight.
        norm: The batch normalization that alone reads its result (see ``fold``), in a tuple, since it is no part of the
            layer; empty: none.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ...) to the layer's result as the run's mode has it; without a run, to the float layer's."""
        run = self.holder.run
        if run is None:
            return super().forward(x)
        if run.mode is Mode.FLOAT:
            return self._float(x, run.matmul_dtype)
        grid = self._grid(run, x)
        if run.mode is Mode.EXACT and self.integer:
            return self._exact(x, grid)
        return self._simulated(x, grid, run)

    def _float(self, x: Tensor, dtype: torch.dtype | None) -> Tensor:
        if dtype is None:
            return super().forward(x)
        return multiply(self, x, self.weight, self.bias, dtype)

    def _simulated(self, x: Tensor, grid: Tensor | None, run: Run) -> Tensor:
        weight = run.weights[self.position]
        weight = self.weight if weight is None else weight
        if grid is not None:
            quantizer = self.activation_range
            if torch.is_grad_enabled() and quantizer.is_plain and fuses(self, x, weight):
                return multiply_quantized(self, x, grid, quantizer.gradient, weight, self.bias, run.matmul_dtype)
            x = quantizer.quantize(x, grid, run.matmul_dtype)
        return multiply(self, x, weight, self.bias, run.matmul_dtype)

    def _exact(self, x: Tensor, grid: Tensor) -> Tensor:
        weight, weight_scale, bias = self.integer_weight()
        return multiply_integers(self, round_to_integers(x, grid), grid[0], weight, weight_scale, bias)

    def _grid(self, run: Run, x: Tensor) -> Tensor | None:
        """The row of the grid table, or the grid at the bits that the policy decides for this input."""
        if run.decide is None or self.index is None:
            return run.grids[self.position]
        run.bits[self.index] = bits = run.decide(self.index, x)
        return self.activation_range.grid(bits)

    @property
    def integer(self) -> bool:
        """Whether it multiplies integers where the mode is exact."""
        return self.options.integer and self.weight.dtype.itemsize >= 4

    @property
    def folds(self) -> bool:
        """Whether it does what its batch normalization would do, which then does nothing, where the mode is exact."""
        return len(self.norm) > 0 and self.integer and not self.norm[0].training

    @torch.no_grad()
    def integer_weight(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The weight as whole numbers (floating point), their scale and bias, (C_out,) each, where it is ``integer``.

        A batch normalization that it ``folds`` is in scale and bias; the scale may be negative then.
        """
        grid, weight = self.weight_range.grid(), self.weight_range.with_offset(self.weight)
        integers = round_to_integers(weight, grid)
        scale, bias = grid[0].expand(len(weight)), self.bias
        if self.folds:
            scale, bias = with_norm(self.norm[0], scale, bias)
        return integers, scale, bias

    def quantized_weight(self) -> Tensor:
        """The fake-quantized weight."""
        return quantize_weights([self.weight], [self.weight_range], self.options.rounding_gradient)[0]


class QuantConv2d(QuantLayer, nn.Conv2d):
    """``nn.Conv2d`` with quantized weight and input, (N, C, H, W) to (N, C_out, H', W')."""


class QuantLinear(QuantLayer, nn.Linear):
    """``nn.Linear`` with quantized weight and input, (N, ..., C) to (N, ..., C_out); samples are the first axis."""


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization that leaves its work to the layer before it where that one ``folds`` it.

    Attributes:
        layer: The layer, in a tuple, since it is no part of the normalization.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        layer = self.layer[0]
        run = layer.holder.run
        if run is not None and run.mode is Mode.EXACT and layer.folds:
            return x
        return super().forward(x)


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
    holder: RunHolder,
    candidates: Sequence[int] = (),
    position: int = 0,
) -> None:
    """Turn a float layer into its quantized twin, in place: same object, same parameters, same hooks.

    Args:
        layer: An ``nn.Conv2d`` or ``nn.Linear``.
        name: Its name in the backbone.
        index: Its number among the adaptive layers; ``None`` for a static one.
        options: Bits, granularity and grids.
        holder: Where it finds the run that it is part of.
        candidates: Ascending bits that it can be asked for; empty: the layer's own.
        position: Its number among all quantized layers.
    """
    layer.__class__ = QUANTIZED_CLASSES[type(layer)]
    layer.name, layer.index, layer.position, layer.norm = name, index, position, ()
    layer.options, layer.holder = options, holder
    activation = options.activation
    layer.activation_range = QUANTIZERS[activation.quantizer](
        candidates or (activation.bits,), activation.grid, options.rounding_gradient
    )
    layer.weight_range = WeightRange(layer.weight, options.weight)
    # A parameter that nothing uses gets no gradient, which DistributedDataParallel does not forgive.
    layer.activation_range.requires_grad_(activation.bits != FLOAT_BITS)
    layer.weight_range.requires_grad_(options.weight.bits != FLOAT_BITS)
