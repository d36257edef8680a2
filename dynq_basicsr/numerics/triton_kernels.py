"""The CUDA kernels of fake quantization: forward and backward, each in one pass over memory.

Import it only where Triton is there. Arguments are as ``NativeKernels`` (native.py) asks for them. float16, bfloat16
and float32 are computed in float32, with IEEE division and rounding half to even, so that results are PyTorch's.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

CHUNK = 2048  # values of one row that one program takes

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@triton.jit
def _grid_of(grid_at, row, rows):
    return tl.load(grid_at + row), tl.load(grid_at + rows + row), tl.load(grid_at + 2 * rows + row)


@triton.jit
def _on_grid(v, low, high):
    # Adding and subtracting 2^23 leaves no bits for a fraction and rounds half to even; from there on all are integers.
    # Not tl.minimum and tl.maximum: these may replace NaN.
    rounded = tl.where(v >= 0, (v + 8388608.0) - 8388608.0, (v - 8388608.0) + 8388608.0)
    rounded = tl.where(tl.abs(v) < 8388608.0, rounded, v)
    rounded = tl.where(rounded < low, low, rounded)
    return tl.where(rounded > high, high, rounded)


@triton.jit
def _slope_of(v):
    # of QuantSR's soft rounding; tanh(u)^2 / u^2 as a polynomial in u^2, wrong by 1.5e-8 at most for |u| <= 1/2
    u = v - tl.floor(v) - 0.5
    squared = u * u
    ratio = 0.377341088 + squared * (-0.191800251 + squared * 0.073101582)
    ratio = 0.999999933 + squared * (-0.666653186 + squared * ratio)
    return 1.0819767068693265 - 1.0819767068693265 * squared * ratio


@triton.jit
def _forward_kernel(x_at, out_at, grid_at, rows, length, chunks, INTEGERS: tl.constexpr, CHUNK: tl.constexpr):
    row, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    scale, low, high = _grid_of(grid_at, row, rows)
    within = chunk.to(tl.int64) * CHUNK + tl.arange(0, CHUNK)
    places = row.to(tl.int64) * length + within
    x = tl.load(x_at + places, mask=within < length, other=0.0).to(tl.float32)
    value = _on_grid(tl.div_rn(x, scale), low, high)
    if not INTEGERS:
        value = value * scale
    tl.store(out_at + places, value.to(out_at.dtype.element_ty), mask=within < length)


@triton.jit
def _backward_kernel(
    grad_at,
    x_at,
    grid_at,
    grad_x_at,
    partials_at,
    rows,
    length,
    chunks,
    programs,  # rows * chunks, all there are
    TANH: tl.constexpr,
    CHUNK: tl.constexpr,
):
    row, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    scale, low, high = _grid_of(grid_at, row, rows)
    within = chunk.to(tl.int64) * CHUNK + tl.arange(0, CHUNK)
    places = row.to(tl.int64) * length + within
    x = tl.load(x_at + places, mask=within < length, other=0.0).to(tl.float32)
    grad = tl.load(grad_at + places, mask=within < length, other=0.0).to(tl.float32)
    v = tl.div_rn(x, scale)
    below, above = x < low * scale, x > high * scale  # neither for NaN, which then shows in the sums
    slope = _slope_of(v) if TANH else 1.0
    error = grad * (_on_grid(v, low, high) - v * slope)
    outside = below | above
    grad_x = tl.where(outside, 0.0, grad * slope)
    tl.store(grad_x_at + places, grad_x.to(grad_x_at.dtype.element_ty), mask=within < length)
    at_low = tl.sum(tl.where(below, grad, 0.0), 0)
    at_high = tl.sum(tl.where(above, grad, 0.0), 0)
    # past the end of a row x and grad are 0, but v is no number where the scale is 0
    residual = tl.sum(tl.where(outside | (within >= length), 0.0, error), 0)
    partials_at += tl.program_id(0)
    tl.store(partials_at, residual + at_low * low + at_high * high)
    tl.store(partials_at + programs, at_low * scale)
    tl.store(partials_at + 2 * programs, at_high * scale)


def take(x: Tensor, other: Tensor, grid: Tensor) -> bool:
    """Whether there is a kernel for x with a result or a gradient of other's dtype."""
    return x.dtype in _DTYPES and other.dtype in _DTYPES and grid.dtype is torch.float32


def forward(x: Tensor, grid: Tensor, result: Tensor, integers: bool) -> None:
    """Fake-quantize x into ``result``; with ``integers``, the whole numbers before the scale is multiplied."""
    rows = grid.shape[1]
    length = x.numel() // rows
    chunks = triton.cdiv(length, CHUNK)
    with torch.cuda.device_of(x):
        _forward_kernel[(rows * chunks,)](x, result, grid, rows, length, chunks, INTEGERS=integers, CHUNK=CHUNK)


def backward(grad: Tensor, x: Tensor, grid: Tensor, gradient: str, grad_x: Tensor, grad_grid: Tensor) -> None:
    """Fill ``grad_x`` and ``grad_grid``, (3, R). Every program writes its own sums, so that they come out alike."""
    rows = grid.shape[1]
    length = x.numel() // rows
    chunks = triton.cdiv(length, CHUNK)
    partials = grid.new_empty(3, rows, chunks)
    programs, tanh = rows * chunks, gradient == 'tanh'
    with torch.cuda.device_of(x):
        _backward_kernel[(programs,)](
            grad, x, grid, grad_x, partials, rows, length, chunks, programs, TANH=tanh, CHUNK=CHUNK
        )
    torch.sum(partials, 2, out=grad_grid)
