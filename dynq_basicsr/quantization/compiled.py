"""The gradients of rounding to a grid, compiled into one pass over memory.

Where convolutions are fast (matrix units), quantization costs a training step more than they do: its backward is
two dozen elementary operations, each a pass over an activation. PyTorch's ahead-of-time compiler makes one loop of
them. ``torch.compile`` would, too, but asks so many questions at each call that half of the gain is lost.
"""

from __future__ import annotations

import functools
import math
import subprocess
import sys
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

PATIENCE = 600  # seconds, after which a compiler is taken for stuck

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


class CannotCompile(Exception):
    """PyTorch cannot compile here; the text is the reason."""


@functools.cache
def compile_rounding(gradient: str) -> Kernel:
    """A kernel for the CPU. It takes about half a minute, less where PyTorch finds parts in its cache on the disk.

    Another process compiles it, loads it and compares its results with PyTorch's, since on some installations a fault
    in loading ends the process (seen with PyTorch 2.11). The kernel shares its work among threads sample by sample.

    Args:
        gradient: ``identity`` or ``tanh``, see ``fake_quantize_step``.

    Raises:
        CannotCompile: As without a C++ compiler.
    """
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / 'gradients.pt2')
            # with the same modules as here, wherever this is run
            script = f'import sys; sys.path[:] = {sys.path!r}; from {__name__} import *; compile_to(*sys.argv[1:])'
            command = [sys.executable, '-c', script, gradient, file]
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            if done.returncode:
                raise CannotCompile(_last_words(done))
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')  # of deprecations within PyTorch
                return torch._inductor.aoti_load_package(file)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise CannotCompile(str(error)) from error


def _last_words(done: subprocess.CompletedProcess) -> str:
    """Why a process failed: the end of what it said, or how it ended."""
    if done.returncode < 0:
        return f'the compiler ended with signal {-done.returncode}'
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return said[-1] if said else f'the compiler ended with exit code {done.returncode}'


def compile_to(gradient: str, file: str) -> None:
    """Compile a kernel into a file, load it from there, and compare it with what it is to replace.

    Args:
        gradient: See ``compile_rounding``.
        file: Path of the file, ending in ``.pt2``.

    Raises:
        AssertionError: If it computes something else.
        Exception: Whatever PyTorch raises where it cannot compile.
    """
    import torch._inductor.config as inductor

    from dynq_basicsr.quantization.fake_quantize import fake_quantize_step

    count, length = torch.export.Dim('count', min=2), torch.export.Dim('length', min=2)
    shapes = ({0: count, 1: length}, {0: count, 1: length}, {1: count})
    # of a usual size, which the compiler takes as a hint; apart from each other, or it takes them for one argument
    examples = tuple(map(torch.ones, ((16, 8192), (16, 8192), (3, 16, 1))))
    with torch.no_grad(), inductor.patch({'compile_threads': 1, 'cpp.dynamic_threads': True}):
        program = torch.export.export(_Gradients(gradient), examples, dynamic_shapes=shapes)
        torch._inductor.aoti_compile_and_package(program, package_path=file)
    kernel = torch._inductor.aoti_load_package(file)
    x, grad = (torch.randn(5, 3000) for _ in range(2))
    x.requires_grad_()
    step, low, high = (torch.linspace(*ends, 5) for ends in ((0.1, 0.7), (-9, -1), (9, 1)))
    gradients = {}
    for name, kernels in (('expected', {}), ('found', {gradient: kernel})):
        with compiled_rounding(kernels):
            gradients[name] = torch.autograd.grad(fake_quantize_step(x, step, low, high, gradient), x, grad)[0]
    torch.testing.assert_close(gradients['found'], gradients['expected'])


def rounding_gradients(
    grad: Tensor, x: Tensor, scale: Tensor, low: Tensor, high: Tensor, gradient: str
) -> tuple[Tensor, ...] | None:
    """Gradients to x, scale, low and high by the kernel in use; None where there is none or it does not fit.

    It fits batches of float32 on the CPU with one scale for each sample, or one in all. Arguments as of
    ``_RoundToGrid`` (fake_quantize.py).
    """
    kernel, count = _kernels.get(gradient), len(x) if x.dim() > 1 else 1
    plain = all(value.dtype == torch.float32 and value.device.type == 'cpu' for value in (grad, x, scale, low, high))
    if kernel is None or not plain or count < 2 or x.numel() == count or scale.numel() not in (1, count):
        return None
    # rows in the order of memory, so that any dense layout is read as it lies
    order = [0, *sorted(range(1, x.dim()), key=lambda dim: -x.stride(dim))]
    laid, grad = x.permute(order), grad.permute(order)
    grid = torch.stack([value.reshape(-1, 1).expand(count, 1) for value in (scale, low, high)])
    grad_x, *others = kernel(grad.reshape(count, -1).contiguous(), laid.reshape(count, -1).contiguous(), grid)
    grad_x = grad_x.view(laid.shape).permute([order.index(dim) for dim in range(x.dim())])
    return grad_x, *((one if scale.numel() > 1 else one.sum()).view(scale.shape) for one in others)


class _Gradients(nn.Module):
    """Of ``scale * clamp(round(x / scale), low, high)``, for finite values."""

    def __init__(self, gradient: str) -> None:
        super().__init__()
        self.gradient = gradient

    def forward(self, grad: Tensor, x: Tensor, grid: Tensor) -> tuple[Tensor, ...]:
        """grad and x are (N, L), the grid scale, low and high, (3, N, 1); gradients in their shapes."""
        scale, low, high = grid
        v, lowest, highest = x / scale, low * scale, high * scale
        within = (x >= lowest) & (x <= highest)
        inside = torch.where(within, grad, 0.0)
        grad_x = inside
        if self.gradient == 'tanh':
            squared = (v - v.floor() - 0.5).square()
            ratio = _TANH_SQUARED[-1]
            for coefficient in _TANH_SQUARED[-2::-1]:
                ratio = ratio * squared + coefficient
            grad_x = inside * (_SLOPE - _SLOPE * squared * ratio)
        # masked once more, since outside v may be so large that 0 * v is no number
        residual = torch.where(within, inside * v.round().maximum(low).minimum(high) - grad_x * v, 0.0)
        residual = residual.sum(1, keepdim=True)
        at_low = torch.where(x < lowest, grad, 0.0).sum(1, keepdim=True)
        at_high = torch.where(x > highest, grad, 0.0).sum(1, keepdim=True)
        return grad_x, residual + at_low * low + at_high * high, at_low * scale, at_high * scale
