"""Fake quantization as one operator of PyTorch: ``dynq::fake_quantize``, its backward, and ``dynq::round_to_integers``.

A *grid* is a tensor (3, R): scale > 0, smallest and largest integer of R rows. Row i holds for the i-th R-th of axis 0.
On the CPU the work is done by a compiled kernel (native.py), on CUDA by Triton (triton_kernels.py), each in one pass
over memory; PyTorch's operations (composite.py) are used where these do not fit, and say what is meant.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dynq_basicsr.numerics.composite import composite_backward, composite_forward
from dynq_basicsr.numerics.native import native_kernels

GRADIENTS = ('identity', 'tanh')


def fake_quantize(x: Tensor, grid: Tensor, gradient: str = 'identity', dtype: torch.dtype | None = None) -> Tensor:
    """``scale * clamp(round(x / scale), low, high)``, rounding half to even.

    Gradients, with v = x / scale and r for rounding: to x, r'(v) for low * scale <= x <= high * scale and 0 outside; to
    scale, ``round(v) - v r'(v)`` inside (with r' = 1 the residual term of LSQ, Esser et al., ICLR 2020), ``low`` or
    ``high`` outside; to low and high, ``scale`` where they clip.

    Args:
        x: Floating point, (N, ...), any layout. Computed in float32, float64 where it is that.
        grid: Scale, low and high, (3, R), floating point; N must be a multiple of R. Gradients have its dtype.
        gradient: r': 1 for ``'identity'`` (straight-through), the slope of a soft rounding for ``'tanh'`` (QuantSR, Qin
            et al., NeurIPS 2023).
        dtype: Of the result, rounded to once, at the end; x's by default.

    Returns:
        Tensor of x's shape and memory layout (dense, if x is not). NaN stays NaN.

    Raises:
        ValueError: If the arguments do not fit each other.
    """
    return _fake_quantize(x, grid, gradient, dtype)


def round_to_integers(x: Tensor, grid: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The whole numbers that ``fake_quantize`` multiplies with the scale. It records no gradient.

    Args:
        x: See ``fake_quantize``, as for all that follows.
        grid: Scale, low and high, (3, R).
        dtype: Of the result, floating point; bfloat16 holds integers up to 256 exactly.
    """
    return _round_to_integers(x, grid, dtype)


@functools.cache
def _triton() -> ModuleType | None:
    try:
        return importlib.import_module('dynq_basicsr.numerics.triton_kernels')
    except ImportError:
        return None


def _kernels_for(x: Tensor, other: Tensor, grid: Tensor):
    """Kernels of x's device that take these dtypes; None: use PyTorch's operations."""
    kernels = native_kernels() if x.device.type == 'cpu' else _triton() if x.device.type == 'cuda' else None
    return kernels if kernels is not None and kernels.take(x, other, grid) else None


def _as_rows(x: Tensor, like: Tensor, rows: int) -> Tensor | None:
    """x itself or a copy that lies as ``like``, a dense tensor, does; None if its rows do not follow each other."""
    if rows > 1 and like.stride(0) * like.shape[0] != like.numel():
        return None
    if x.stride() == like.stride():
        return x
    return torch.empty_like(like, dtype=x.dtype).copy_(x)


def _check(x: Tensor, grid: Tensor, gradient: str) -> None:
    if gradient not in GRADIENTS:
        raise ValueError(f'gradient must be one of {GRADIENTS}, not {gradient!r}')
    if not (x.is_floating_point() and grid.is_floating_point()):
        raise ValueError(f'x and grid must be floating point, not {x.dtype} and {grid.dtype}')
    if grid.dim() != 2 or grid.shape[0] != 3 or grid.shape[1] == 0:
        raise ValueError(f'grid must be (3, R): scale, low and high of R rows; it is {tuple(grid.shape)}')
    if x.dim() == 0 or x.shape[0] % grid.shape[1]:
        raise ValueError(f'axis 0 of x, {tuple(x.shape)}, must be a multiple of the {grid.shape[1]} rows of the grid')
    if x.device != grid.device:
        raise ValueError(f'x and grid must be on one device, not on {x.device} and {grid.device}')


def _forward(x: Tensor, grid: Tensor, gradient: str, dtype: torch.dtype | None = None, integers=False) -> Tensor:
    _check(x, grid, gradient)
    result = torch.empty_like(x, dtype=dtype)
    if x.numel() == 0:
        return result
    kernels = _kernels_for(x, result, grid)
    if kernels is None or (rows := _as_rows(x, result, grid.shape[1])) is None:
        return composite_forward(x, grid, result.dtype, integers)
    kernels.forward(rows, grid.contiguous(), result, integers)
    return result


def _backward(grad: Tensor, x: Tensor, grid: Tensor, gradient: str) -> tuple[Tensor, Tensor]:
    _check(x, grid, gradient)
    grad_x = torch.empty_like(x)
    if x.numel() == 0:
        return grad_x, torch.zeros_like(grid, memory_format=torch.contiguous_format)
    kernels = _kernels_for(x, grad, grid)
    if kernels is None or (rows := _as_rows(x, grad_x, grid.shape[1])) is None:
        return composite_backward(grad, x, grid, gradient)
    grad_grid = torch.empty_like(grid, memory_format=torch.contiguous_format)
    kernels.backward(_as_rows(grad, grad_x, grid.shape[1]), rows, grid.contiguous(), gradient, grad_x, grad_grid)
    return grad_x, grad_grid


def _forward_shape(x: Tensor, grid: Tensor, gradient: str, dtype: torch.dtype | None = None) -> Tensor:
    _check(x, grid, gradient)
    return torch.empty_like(x, dtype=dtype)


def _backward_shape(grad: Tensor, x: Tensor, grid: Tensor, gradient: str) -> tuple[Tensor, Tensor]:
    _check(x, grid, gradient)
    return torch.empty_like(x), torch.empty_like(grid, memory_format=torch.contiguous_format)


# Defined and implemented by hand. With two empty kernels, forward and backward of 16 values took 155 us through
# torch.library.custom_op, 74 us through this with torch.library.register_autograd, 53 us through this with a function
# of autograd; that function without any operator, 42 us (PyTorch 2.13, one core).
_library = torch.library.Library('dynq', 'DEF')
_library.define('fake_quantize(Tensor x, Tensor grid, str gradient, ScalarType? dtype=None) -> Tensor')
_library.define('fake_quantize_backward(Tensor grad, Tensor x, Tensor grid, str gradient) -> (Tensor, Tensor)')
_library.define('round_to_integers(Tensor x, Tensor grid, ScalarType? dtype=None) -> Tensor')

_fake_quantize = torch.ops.dynq.fake_quantize.default
_fake_quantize_backward = torch.ops.dynq.fake_quantize_backward.default
_round_to_integers = torch.ops.dynq.round_to_integers.default


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, grid: Tensor, gradient: str, dtype: torch.dtype | None = None) -> Tensor:
        ctx.save_for_backward(x, grid)
        ctx.gradient = gradient
        with torch._C._AutoDispatchBelowAutograd():
            return _fake_quantize(x, grid, gradient, dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_grid = _fake_quantize_backward(grad, *ctx.saved_tensors, ctx.gradient)
        need_x, need_grid, *_ = ctx.needs_input_grad
        return grad_x if need_x else None, grad_grid if need_grid else None, None, None


def _without_gradient(operator):
    def call(*args):
        with torch._C._AutoDispatchBelowAutograd():
            return operator(*args)

    return call


def _integers(x: Tensor, grid: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return _forward(x, grid, 'identity', dtype, integers=True)


def _integers_shape(x: Tensor, grid: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    return _forward_shape(x, grid, 'identity', dtype)


for _name, _kernel, _shape, _autograd in (
    ('fake_quantize', _forward, _forward_shape, _FakeQuantize.apply),
    ('fake_quantize_backward', _backward, _backward_shape, _without_gradient(_fake_quantize_backward)),
    ('round_to_integers', _integers, _integers_shape, _without_gradient(_round_to_integers)),
):
    _library.impl(_name, _kernel, 'CompositeExplicitAutograd')
    _library.impl(_name, _shape, 'Meta')
    _library.impl(_name, _autograd, 'Autograd')
