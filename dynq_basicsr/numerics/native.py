"""The CPU kernel of fake quantization (fake_quantize.c), compiled on first use by the system's C compiler.

The result lies in a folder of the user's, so that one machine compiles once. Whatever goes wrong leaves no kernel and a
reason, and PyTorch's operations are used instead.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from dynq_basicsr.numerics.composite import composite_backward, composite_forward

SOURCE = Path(__file__).with_name('fake_quantize.c')
PATIENCE = 60  # seconds, after which a compiler is taken for stuck

# None of these changes a result; -ffast-math would.
_FLAGS = ('-O3', '-fPIC', '-fno-math-errno', '-fno-trapping-math')
# From the best to the most modest, for compilers without OpenMP or without the name of this processor.
_CHOICES = (('-march=native', '-fopenmp'), ('-march=native', '-fopenmp-simd'), ('-fopenmp-simd',))
_BFLOAT16, _INTEGERS, _TANH = 1, 2, 4  # as in fake_quantize.c

_pointer, _long, _int = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


class CannotCompile(Exception):
    """There is no native kernel here; the text is the reason."""


# ValueError: a CC that no shell could read
_FAILURES = (CannotCompile, OSError, AttributeError, AssertionError, ValueError, subprocess.SubprocessError)


class NativeKernels:
    """The functions of one compiled library, for tensors on the CPU.

    All arguments must be dense, hold R equal rows one after another in memory (R = grid.shape[1]), and lie alike: that
    is for the caller to see to. Only dtypes are looked at here. More than 16384 values are shared among
    ``torch.get_num_threads()`` threads, on whose number no result depends.

    Args:
        file: The library.

    Raises:
        OSError: If it cannot be loaded.
    """

    def __init__(self, file: Path) -> None:
        library = ctypes.CDLL(str(file))
        self._forward, self._backward = library.dynq_forward, library.dynq_backward
        self._forward.restype = None
        self._forward.argtypes = [_pointer] * 3 + [_long] * 2 + [_int] * 2
        self._backward.argtypes = [_pointer] * 5 + [_long] * 2 + [_int] * 2

    @staticmethod
    def take(x: Tensor, other: Tensor, grid: Tensor) -> bool:
        """Whether there is a kernel for x, float32, with a result or a gradient of other's dtype: float32, bfloat16."""
        single = torch.float32
        return x.dtype is single and grid.dtype is single and other.dtype in (single, torch.bfloat16)

    def forward(self, x: Tensor, grid: Tensor, result: Tensor, integers: bool) -> None:
        """Fake-quantize x into ``result``; with ``integers``, the whole numbers before the scale is multiplied."""
        flags = _BFLOAT16 * (result.dtype is torch.bfloat16) + _INTEGERS * integers
        rows, threads = grid.shape[1], torch.get_num_threads()
        pointers = x.data_ptr(), result.data_ptr(), grid.data_ptr()
        self._forward(*pointers, rows, x.numel() // rows, flags, threads)

    def backward(self, grad: Tensor, x: Tensor, grid: Tensor, gradient: str, grad_x: Tensor, grad_grid: Tensor) -> None:
        """Fill ``grad_x`` and ``grad_grid``, (3, R), both float32."""
        flags = _BFLOAT16 * (grad.dtype is torch.bfloat16) + _TANH * (gradient == 'tanh')
        rows, threads = grid.shape[1], torch.get_num_threads()
        pointers = (one.data_ptr() for one in (grad, x, grid, grad_x, grad_grid))
        if self._backward(*pointers, rows, x.numel() // rows, flags, threads):
            raise MemoryError('no memory for partial sums of fake quantization')


def native_kernels() -> NativeKernels | None:
    """The kernels of this process; None where there are none. The first call compiles for a second, or loads."""
    return _kernels_or_reason()[0]


def why_not_native() -> str | None:
    """Why ``native_kernels`` gives None; None where it gives kernels."""
    return _kernels_or_reason()[1]


@functools.cache
def _kernels_or_reason() -> tuple[NativeKernels | None, str | None]:
    if os.environ.get('DYNQ_NATIVE') == '0':
        return None, 'DYNQ_NATIVE=0 switches it off'
    try:
        return _build(), None
    except _FAILURES as error:
        return None, ' '.join(str(error).split()) or type(error).__name__


def _build() -> NativeKernels:
    compiler = _compiler()
    said = subprocess.run([*compiler, '--version'], capture_output=True, timeout=PATIENCE).stdout
    errors = []
    for choice in _CHOICES:
        flags = (*_FLAGS, *choice)
        # -march=native means another processor elsewhere, where the folder may be the same
        parts = (SOURCE.read_bytes(), said, ' '.join((*compiler, *flags)).encode(), _processor().encode())
        name = hashlib.sha256(b'\0'.join(parts)).hexdigest()[:32] + '.so'
        try:
            kernels = _load_or_compile(compiler, flags, name)
            _check(kernels)
            return kernels
        except _FAILURES as error:
            errors.append(f'{" ".join(choice)}: {error}')
    raise CannotCompile('; '.join(errors))


def _compiler() -> list[str]:
    if named := os.environ.get('CC'):
        return shlex.split(named)
    for name in ('cc', 'gcc', 'clang'):
        if found := shutil.which(name):
            return [found]
    raise CannotCompile('no C compiler is here: neither cc nor gcc nor clang, and CC names none')


def _processor() -> str:
    """What -march=native depends on: the processor's features as Linux lists them, its name elsewhere."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.lower().startswith(('flags', 'features'))), platform.processor())
    return f'{platform.system()} {platform.machine()} {features}'


def _load_or_compile(compiler: list[str], flags: tuple[str, ...], name: str) -> NativeKernels:
    for folder in _folders():
        if folder and (folder / name).is_file():
            return NativeKernels(folder / name)
        try:
            if folder:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # beside its goal, so that renaming is one step, which another process sees done or not at all
            work = tempfile.TemporaryDirectory(dir=folder, prefix='compile-', ignore_cleanup_errors=True)
        except OSError:
            continue  # where one may not write, the next folder
        with work:
            file = Path(work.name) / name
            _compile(compiler, flags, file)
            if folder:
                file = file.replace(folder / name)
            return NativeKernels(file)  # a loaded library may be deleted
    raise CannotCompile('no folder to compile in')


def _folders() -> Iterator[Path | None]:
    """Where libraries are kept, then None: a temporary folder of this process, for none shared by users is safe."""
    try:
        yield Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'dynq_basicsr'
    except RuntimeError:  # a user without a home
        pass
    yield None


def _compile(compiler: list[str], flags: tuple[str, ...], file: Path) -> None:
    """Compile and link, the latter without OpenMP: its functions are to be those of the runtime PyTorch has loaded.

    A second runtime would bring threads of its own, and ``torch.set_num_threads`` would not reach them.
    """
    parts = file.with_suffix('.o')
    for command in (
        [*compiler, *flags, '-c', str(SOURCE), '-o', str(parts)],
        [*compiler, '-shared', str(parts), '-o', str(file), '-lm'],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if 'error' in line] or done.stderr.splitlines()
            raise CannotCompile(said[0] if said else f'{command[0]} ended with exit code {done.returncode}')


def _check(kernels: NativeKernels) -> None:
    """Compare with PyTorch's operations.

    Raises:
        AssertionError: If they differ.
    """
    x = torch.linspace(-6, 6, 2 * 5003, dtype=torch.float32, device='cpu').view(2, 5003).flip(1).contiguous()
    grid = torch.tensor([[0.7, 0.03], [-4, 0], [3, 15]], dtype=torch.float32, device='cpu')
    for dtype in (torch.float32, torch.bfloat16):
        for integers in (False, True):
            result = torch.empty_like(x, dtype=dtype)
            kernels.forward(x, grid, result, integers)
            assert torch.equal(result, composite_forward(x, grid, dtype, integers)), 'the compiled forward is wrong'
        for gradient in ('identity', 'tanh'):
            grad = (5 * x).cos().to(dtype)
            found = torch.empty_like(x), torch.empty_like(grid)
            kernels.backward(grad, x, grid, gradient, *found)
            for one, other in zip(found, composite_backward(grad, x, grid, gradient), strict=True):
                assert torch.allclose(one, other, rtol=1e-4, atol=1e-4), 'the compiled backward is wrong'
