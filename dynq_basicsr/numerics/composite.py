"""Fake quantization in PyTorch's operations, for any device and dtype: the formula that kernels are held against."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _in_rows(x: Tensor, rows: int) -> Tensor:
    return x.view(rows, x.shape[0] // rows, *x.shape[1:])


def _rows_of(grid: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """Scale, low and high that broadcast to ``_in_rows(x)``, in the dtype of computation."""
    grid = grid.to(torch.float64 if x.dtype == torch.float64 else torch.float32)
    return grid.reshape(3, -1, *[1] * x.dim()).unbind()


def composite_forward(x: Tensor, grid: Tensor, dtype: torch.dtype, integers: bool) -> Tensor:
    """The forward pass of ``fake_quantize``, of ``round_to_integers`` where ``integers``, for any device."""
    scale, low, high = _rows_of(grid, x)
    result = torch.empty_like(x, dtype=scale.dtype)
    work = _in_rows(result, grid.shape[1])
    torch.div(_in_rows(x, grid.shape[1]), scale, out=work)
    work.round_()
    # maximum and minimum, not clamp: clamp with broadcast bounds leaves the vectorised path
    torch.maximum(work, low, out=work)
    torch.minimum(work, high, out=work)
    if not integers:
        work.mul_(scale)
    return result.to(dtype)


def composite_backward(grad: Tensor, x: Tensor, grid: Tensor, gradient: str) -> tuple[Tensor, Tensor]:
    """The gradients to x and to the grid of ``fake_quantize``, for any device."""
    (scale, low, high), rows, along = _rows_of(grid, x), grid.shape[1], tuple(range(1, x.dim() + 1))
    wide, grad = _in_rows(x.to(scale.dtype), rows), _in_rows(grad.to(scale.dtype), rows)
    # Buffers are used again, since at these sizes a fresh one costs more than the arithmetic that fills it.
    first, second = (torch.empty_like(x, dtype=scale.dtype) for _ in range(2))
    side, signed = _in_rows(first, rows), _in_rows(second, rows)
    # side is 1 below the range, -1 above, 0 inside. Kept as floating point: boolean masks cost ten times more.
    torch.maximum(wide, low * scale, out=side)
    torch.minimum(side, high * scale, out=side).sub_(wide).sign_()
    torch.mul(grad, side, out=signed)
    outside = side.mul_(signed)  # side^2 * grad
    difference, total = signed.sum(along, True), outside.sum(along, True)
    at_low, at_high = (total + difference) / 2, (total - difference) / 2
    inside = torch.sub(grad, outside, out=outside)
    grad_x, slanted = first, inside
    if gradient == 'tanh':
        grad_x, slanted = second, _tanh_slope(torch.div(wide, scale, out=signed)).mul_(inside)
    # computed once more rather than kept: it would double what every layer holds until here
    residual = composite_forward(x, grid, scale.dtype, False).view_as(wide)
    residual.mul_(inside).addcmul_(wide, slanted, value=-1)
    at_scale = residual.sum(along, True) / scale + at_low * low + at_high * high
    grad_grid = torch.stack((at_scale, at_low * scale, at_high * scale)).reshape(3, rows)
    return grad_x.to(x.dtype), grad_grid.to(grid.dtype)


def _tanh_slope(v: Tensor) -> Tensor:
    """Slope of ``floor(v) + (1 + tanh(f - 1/2) / tanh(1/2)) / 2``, f = v - floor(v): QuantSR's soft rounding; in place.

    0.85 on the grid, 1.08 half way between two levels. It is the same at f and 1 - f, so that |frac(v)| serves.
    """
    return v.frac_().abs_().sub_(0.5).tanh_().square_().mul_(-0.5 / math.tanh(0.5)).add_(0.5 / math.tanh(0.5))
