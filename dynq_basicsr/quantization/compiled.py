"""The gradients of rounding to a grid, compiled into one pass over memory.

Where convolutions are fast (matrix units, GPUs), quantization costs a training step more than they do: its backward is
two dozen elementary operations, each a pass over an activation. PyTorch's ahead-of-time compiler makes one loop of
them. ``torch.compile`` would, too, but asks so many questions at each call that half of the gain is lost.
"""

from __future__ import annotations

import functools
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

# tanh(u)^2 / u^2 as a polynomial in u^2, |u| <= 1/2: the Chebyshev interpolant of degree 4, wrong by 1.5e-8 at most. As
# tanh itself it would take as long as everything else.
_TANH_SQUARED = (0.999999933, -0.666653186, 0.377341088, -0.191800251, 0.073101582)
_SLOPE = 0.5 / math.tanh(0.5)

Kernel = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]

_kernels: dict[str, Kernel] = {}


@contextmanager
def compiled_rounding(kernels: dict[str, Kernel]) -> Iterator[None]:
    """Within the block, gradients of rounding are computed by these kernels, by PyTorch's operations where none fits.

    Args:
        kernels: From ``compile_rounding``, by the gradient they compute.
    """
    global _kernels  # a backward pass may run in a thread of its own, where a context variable would not be seen
    before, _kernels = _kernels, kernels
    try:
        yield
    finally:
        _kernels = before


@functools.cache
def compile_rounding(gradient: str, device: torch.device) -> Kernel:
    """A kernel for a device: about 20 s, and half of it where PyTorch finds parts in its cache on the disk.

    Args:
        gradient: ``identity`` or ``tanh``, see ``fake_quantize_step``.
        device: Where it shall run.

    Raises:
        Exception: Whatever PyTorch raises where it cannot compile, as without a C++ compiler.
    """
    from torch._inductor import aoti_compile_and_package, aoti_load_package
    from torch._inductor import config as inductor

    count, length = torch.export.Dim('count', min=2), torch.export.Dim('length', min=2)
    shapes = ({0: count, 1: length}, {0: count, 1: length}, {1: count})
    # of a usual size, which the compiler takes as a hint; apart from each other, or it takes them for one argument
    examples = tuple(torch.ones(shape, device=device) for shape in ((16, 8192), (16, 8192), (3, 16, 1)))
    with (
        torch.no_grad(),
        warnings.catch_warnings(),
        inductor.patch({'compile_threads': 1, 'cpp.dynamic_threads': True}),
        tempfile.TemporaryDirectory() as folder,
    ):
        warnings.simplefilter('ignore')  # of deprecations within PyTorch
        program = torch.export.export(_Gradients(gradient), examples, dynamic_shapes=shapes)
        file = aoti_compile_and_package(program, package_path=str(Path(folder) / 'gradients.pt2'))
        return aoti_load_package(file)


def rounding_gradients(
    grad: Tensor, x: Tensor, scale: Tensor, low: Tensor, high: Tensor, gradient: str
) -> tuple[Tensor, ...] | None:
    """Gradients to x, scale, low and high by the kernel in use; None where there is none or it does not fit.

    It fits batches of float32 with one scale for each sample, or one in all. Arguments as of ``_RoundToGrid``
    (fake_quantize.py).
    """
    kernel, count = _kernels.get(gradient), len(x) if x.dim() > 1 else 1
    fits = x.dtype == torch.float32 and count > 1 and x.numel() > count and scale.numel() in (1, count)
    if kernel is None or not fits or torch.is_grad_enabled():
        return None
    # rows in the order of memory, so that any dense layout is read as it lies
    order = [0, *sorted(range(1, x.dim()), key=lambda dim: -x.stride(dim))]
    laid, grad = x.permute(order), grad.permute(order)
    grid = torch.stack([value.reshape(-1, 1).expand(count, 1) for value in (scale, low, high)])
    grad_x, *others = kernel(grad.reshape(count, -1).contiguous(), laid.reshape(count, -1).contiguous(), grid)
    grad_x = grad_x.view(laid.shape).permute([order.index(dim) for dim in range(x.dim())])
    return grad_x, *((one if scale.numel() > 1 else one.sum()).view(scale.shape) for one in others)


class _Gradients(nn.Module):
    """Of ``scale * clamp(round(x / scale), low, high)``."""

    def __init__(self, gradient: str) -> None:
        super().__init__()
        self.gradient = gradient

    def forward(self, grad: Tensor, x: Tensor, grid: Tensor) -> tuple[Tensor, ...]:
        """grad and x are (N, L), the grid scale, low and high, (3, N, 1); gradients in their shapes."""
        scale, low, high = grid
        v, lowest, highest = x / scale, low * scale, high * scale
        inside = torch.where((x >= lowest) & (x <= highest), grad, 0.0)
        grad_x = inside
        if self.gradient == 'tanh':
            squared = (v - v.floor() - 0.5).square()
            ratio = _TANH_SQUARED[-1]
            for coefficient in _TANH_SQUARED[-2::-1]:
                ratio = ratio * squared + coefficient
            grad_x = inside * (_SLOPE - _SLOPE * squared * ratio)
        residual = (inside * v.round().maximum(low).minimum(high) - grad_x * v).sum(1, keepdim=True)
        at_low = torch.where(x < lowest, grad, 0.0).sum(1, keepdim=True)
        at_high = torch.where(x > highest, grad, 0.0).sum(1, keepdim=True)
        return grad_x, residual + at_low * low + at_high * high, at_low * scale, at_high * scale
