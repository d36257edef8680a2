"""The CUDA kernels, run by Triton's interpreter on the CPU in a process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

SCRIPT = """
import itertools, torch
from dynq_basicsr.numerics import triton_kernels as kernels
from dynq_basicsr.numerics.composite import composite_backward, composite_forward

dtypes = torch.float32, torch.bfloat16, torch.float16
close = torch.testing.assert_close
generator = torch.Generator().manual_seed(0)
special = torch.tensor([float('nan'), float('inf'), -float('inf'), 1e9, -1e9, 2.5, -2.5, 3.5, -0.5, 0.5])
for (rows, *shape), dtype, other in itertools.product(((1, 2, 35), (3, 3, 2500), (2, 6, 700)), dtypes, dtypes):
    scale = torch.tensor([1.0, 0.1, 0.6])[:rows]
    grid = torch.stack([scale, torch.linspace(-8, 0, rows).round(), torch.linspace(7, 15, rows).round()])
    x = (4 * torch.randn(shape, generator=generator)).to(dtype)
    finite, grad = x.clone(), torch.randn(shape, generator=generator).to(other)
    x[0, : len(special)] = special.to(dtype)
    # the interpreter cuts bfloat16 off, where a GPU rounds to nearest
    tolerance = {'rtol': 2**-7, 'atol': 0} if torch.bfloat16 in (dtype, other) else {'rtol': 0, 'atol': 0}
    for integers in (False, True):
        result = torch.empty_like(x, dtype=other)
        kernels.forward(x, grid, result, integers)
        close(result, composite_forward(x, grid, other, integers), equal_nan=True, **tolerance)
    tolerance = {'rtol': 1e-5 if dtype is torch.float32 else 2**-7, 'atol': 1e-6}
    for gradient in ('identity', 'tanh'):
        grad_x, grad_grid = torch.empty_like(x), torch.empty_like(grid)
        kernels.backward(grad, finite, grid, gradient, grad_x, grad_grid)
        expected_x, expected_grid = composite_backward(grad, finite, grid, gradient)
        close(grad_x, expected_x, **tolerance)
        close(grad_grid, expected_grid, rtol=1e-4, atol=1e-4)
    assert kernels.take(x, grad, grid) and not kernels.take(x.double(), grad, grid)
"""


def test_they_compute_what_pytorchs_operations_do(repository):
    if not find_spec('triton'):
        pytest.skip('Triton is not installed')
    environment = {**os.environ, 'TRITON_INTERPRET': '1'}
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT], cwd=repository, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
