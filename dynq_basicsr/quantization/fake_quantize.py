"""Fake quantization: pure functions of a tensor, its range and its bit-width.

Both functions put values on a grid ``scale * integer`` and keep them as floating point. ``grid='integer'`` (default) is
the grid that integer kernels use: an integer zero point, zero exactly representable. ``grid='literal'`` is the formula
printed in the papers (AdaBM Eq. 1 and 2), whose grid starts at the lower bound and need not contain zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dynq_basicsr.quantization.compiled import rounding_gradients

GRIDS = ('integer', 'literal')
ROUNDING_GRADIENTS = ('identity', 'tanh')


class _RoundToGrid(torch.autograd.Function):
    """``scale * clamp(round(x / scale), low, high)`` with a surrogate r for the gradient of rounding.

    Gradients, with v = x / scale: to x, r'(v) inside and 0 outside; to scale, ``round(v) - v r'(v)`` inside (with
    r' = 1 the residual term of LSQ), ``low`` or ``high`` outside; to low and high, ``scale`` where they clip. One fused
    function, because autograd over the five elementary operations would keep five copies of every activation.
    """

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor, low: Tensor, high: Tensor, gradient: str = 'identity') -> Tensor:
        ctx.save_for_backward(x, scale, low, high)
        ctx.gradient = gradient
        return _round_to_grid(x, scale, low, high)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, low, high = ctx.saved_tensors
        if compiled := rounding_gradients(grad, x, scale, low, high, ctx.gradient):
            return *compiled, None
        need_x, need_scale, need_low, need_high, _ = ctx.needs_input_grad
        # side is 1 below the range, -1 above, 0 inside. Kept as floating point: boolean masks cost ten times more.
        # Buffers are used again, since at these sizes a fresh one costs more than the arithmetic that fills it.
        side = torch.maximum(x, low * scale)
        side = torch.minimum(side, high * scale, out=side).sub_(x).sign_()
        signed = grad * side
        outside = side.mul_(signed)  # side^2 * grad
        if need_scale or need_low or need_high:
            difference, total = _sum_to(signed, scale.shape), _sum_to(outside, scale.shape)
            at_low, at_high = (total + difference) / 2, (total - difference) / 2
        inside = torch.sub(grad, outside, out=outside)
        if ctx.gradient == 'identity':
            grad_x = inside
        else:
            grad_x = _tanh_slope(torch.div(x, scale, out=signed)).mul_(inside)
        grad_scale = grad_low = grad_high = None
        if need_scale:
            # computed once more rather than kept: it would double what every layer holds until here
            residual = _round_to_grid(x, scale, low, high).mul_(inside).addcmul_(x, grad_x, value=-1)
            grad_scale = _sum_to(residual, scale.shape) / scale + at_low * low + at_high * high
        if need_low:
            grad_low = _sum_to(at_low * scale, low.shape)
        if need_high:
            grad_high = _sum_to(at_high * scale, high.shape)
        return grad_x if need_x else None, grad_scale, grad_low, grad_high, None


def _tanh_slope(v: Tensor) -> Tensor:
    """Slope of ``floor(v) + (1 + tanh(f - 1/2) / tanh(1/2)) / 2``, f = v - floor(v): QuantSR's soft rounding; in place.

    0.85 on the grid, 1.08 half way between two levels. It is the same at f and 1 - f, so that |frac(v)| serves.
    """
    return v.frac_().abs_().sub_(0.5).tanh_().square_().mul_(-0.5 / math.tanh(0.5)).add_(0.5 / math.tanh(0.5))


def _round_to_grid(x: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return round_to_integers(x, scale, low, high).mul_(scale)


def round_to_integers(x: Tensor, scale: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The integers that fake quantization multiplies with the scale: ``clamp(round(x / scale), low, high)``.

    Args:
        x: Any tensor.
        scale: > 0, of a shape that broadcasts to that of x, and so the next two.
        low: Smallest integer.
        high: Largest integer.

    Returns:
        Whole numbers, of x's shape and dtype. It has no gradient worth the name: call it where none is recorded.
    """
    rounded = torch.div(x, scale).round_()
    # maximum and minimum, not clamp: clamp with broadcast bounds leaves the vectorised path
    torch.maximum(rounded, low, out=rounded)
    torch.minimum(rounded, high, out=rounded)
    return rounded


def _sum_to(x: Tensor, shape: torch.Size) -> Tensor:
    return x.sum_to_size(shape) if x.shape != shape else x


def round_ste(x: Tensor) -> Tensor:
    """Round half to even, with the gradient of the identity (straight-through estimator)."""
    return x + (x.round() - x).detach()


def per_sample(value: Tensor | float, x: Tensor) -> Tensor:
    """Shape a number, a scalar or (N,) so that it broadcasts over the samples of x, in its dtype and on its device."""
    value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return value.reshape(-1, *[1] * (x.dim() - 1)) if value.dim() == 1 else value


def fake_quantize_activation(
    x: Tensor, lower: Tensor, upper: Tensor, bits: Tensor | float, grid: str = 'integer', gradient: str = 'identity'
) -> Tensor:
    """Quantize activations to 2^bits levels on [lower, upper], one bit-width per sample.

    Scale S = (u - l) / (2^b - 1); the integer grid rounds the zero point -l / S. Differentiable in x, both bounds and
    bits (DESIGN: a quantizer is a pure function of x, range and bits). Follows AdaBM Eq. 1.

    Args:
        x: Activations, (N, ...), samples first.
        lower: <= 0, a scalar or (N,).
        upper: >= 0, above lower, likewise.
        bits: Bit-width, a number or a tensor of shape (N,).
        grid: ``'integer'`` or ``'literal'``.
        gradient: See ``fake_quantize_step``.

    Returns:
        Tensor of x's shape and dtype.
    """
    lower, upper, bits = (per_sample(value, x) for value in (lower, upper, bits))
    if grid == 'literal':
        levels = 2**bits - 1
        scale = (upper - lower) / levels
        zeros = torch.zeros_like(scale)
        return _RoundToGrid.apply(x - lower, scale, zeros, levels.expand_as(scale), gradient) + lower
    return _RoundToGrid.apply(x, *integer_grid(lower, upper, bits), gradient)


def integer_grid(lower: Tensor, upper: Tensor, bits: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
    """The integer grid of a range: its scale, its smallest and its largest integer, of the arguments' shape."""
    levels = 2**bits - 1
    scale = (upper - lower) / levels
    zero_point = round_ste(-lower / scale)
    return scale, -zero_point, levels - zero_point


def fake_quantize_step(
    x: Tensor, step: Tensor, low: Tensor | float, high: Tensor | float, gradient: str = 'identity'
) -> Tensor:
    """Quantize to ``step * {low, ..., high}``, one step a sample (LSQ, Esser et al., ICLR 2020).

    Args:
        x: Activations, (N, ...), samples first.
        step: > 0, a scalar or (N,).
        low: Smallest integer, <= 0: likewise.
        high: Largest integer, > 0: likewise.
        gradient: Of rounding: ``'identity'`` (straight-through) or ``'tanh'`` (QuantSR, Qin et al., NeurIPS 2023).

    Returns:
        Tensor of x's shape and dtype.
    """
    step, low, high = (per_sample(value, x) for value in (step, low, high))
    return _RoundToGrid.apply(x, step, low.expand_as(step), high.expand_as(step), gradient)


def fake_quantize_weight(
    weight: Tensor, upper: Tensor, bits: int, grid: str = 'integer', gradient: str = 'identity'
) -> Tensor:
    """Quantize weights to 2^bits signed levels.

    The integer grid is ``scale * {-2^(b-1), ..., 2^(b-1) - 1}`` with ``scale = upper / (2^(b-1) - 1)``, so that 8 bits
    and fewer fit int8. The literal grid has 2^b levels from -upper to upper and no zero (AdaBM Eq. 2 as published).

    Args:
        weight: Weights, (C_out, ...).
        upper: Clipping bound, > 0: a scalar (per tensor) or (C_out, 1, ...) (per channel).
        bits: Bit-width, 2..8.
        grid: ``'integer'`` or ``'literal'``.
        gradient: See ``fake_quantize_step``.
    """
    if grid == 'literal':
        levels = weight.new_tensor(2.0**bits - 1).expand_as(upper)
        return _RoundToGrid.apply(weight + upper, 2 * upper / levels, torch.zeros_like(upper), levels, gradient) - upper
    return _RoundToGrid.apply(weight, *weight_grid(upper, bits), gradient)


def weight_grid(upper: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """The integer grid of a weight: its scale, its smallest and its largest integer, each of the bound's shape."""
    high = upper.new_tensor(2.0 ** (bits - 1) - 1).expand_as(upper)
    return upper / high, -high - 1, high
