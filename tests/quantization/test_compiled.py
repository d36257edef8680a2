"""Compiled gradients of rounding against those of PyTorch's operations, which test_fake_quantize_gradients checks."""

import pytest
import torch

from dynq_basicsr.quantization import compiled
from dynq_basicsr.quantization.compiled import CannotCompile, compile_rounding, compiled_rounding
from dynq_basicsr.quantization.fake_quantize import ROUNDING_GRADIENTS, fake_quantize_step, fake_quantize_weight

CHANNELS_LAST = torch.channels_last


@pytest.fixture(scope='module', params=ROUNDING_GRADIENTS)
def kernels(request, compiler):
    return {request.param: compile_rounding(request.param)}


@pytest.fixture
def calls(kernels, monkeypatch):
    """How often a kernel was called within ``compiled_rounding(kernels)``."""
    counted = []
    for gradient, kernel in kernels.items():
        monkeypatch.setitem(kernels, gradient, lambda *a, kernel=kernel: (counted.append(1), kernel(*a))[1])
    return counted


def noise(*shape, seed=0, dtype=torch.float32):
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gradients(quantize, *leaves, layout=torch.contiguous_format):
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    out = quantize(*leaves)
    upstream = noise(*out.shape, seed=1, dtype=out.dtype)
    return torch.autograd.grad(out, leaves, upstream.contiguous(memory_format=layout) if out.dim() == 4 else upstream)


def step_of_each(gradient):
    return lambda x, step, low, high: fake_quantize_step(x, step, low, high, gradient)


@pytest.mark.parametrize('shape', [(3, 5, 6, 7), (16, 64, 24, 24), (5, 30, 8), (4, 2)])
@pytest.mark.parametrize('x_layout', [torch.contiguous_format, CHANNELS_LAST])
@pytest.mark.parametrize('grad_layout', [torch.contiguous_format, CHANNELS_LAST])
def test_a_scale_a_sample(kernels, calls, shape, x_layout, grad_layout):
    gradient = next(iter(kernels))
    x = noise(*shape)
    if len(shape) == 4:
        x = x.contiguous(memory_format=x_layout)
    count = shape[0]
    leaves = (x, torch.linspace(0.1, 0.7, count), -torch.linspace(1, 9, count).round(), torch.full((count,), 4.0))
    expected = gradients(step_of_each(gradient), *leaves, layout=grad_layout)
    assert not calls
    with compiled_rounding(kernels):
        found = gradients(step_of_each(gradient), *leaves, layout=grad_layout)
    assert calls
    assert found[0].shape == x.shape
    for one, other in zip(found, expected, strict=True):
        # sums run over up to 36864 terms, in another order
        torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-6 * x[0].numel() ** 0.5)


@pytest.mark.parametrize('per_channel', [True, False])
def test_weights(kernels, calls, per_channel):
    gradient = next(iter(kernels))
    weight = noise(48, 16, 3, 3)
    upper = torch.linspace(0.5, 2, 48).view(48, 1, 1, 1) if per_channel else torch.tensor(1.5)
    quantize = lambda w, u: fake_quantize_weight(w, u, 4, gradient=gradient)  # noqa: E731
    expected = gradients(quantize, weight, upper)
    with compiled_rounding(kernels):
        found = gradients(quantize, weight, upper)
    assert calls and found[1].shape == upper.shape
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-5, atol=1e-4)


def test_values_on_the_edges_of_the_range_are_inside(kernels, calls):
    gradient = next(iter(kernels))
    x = torch.tensor([[-2.0, 3.0, -2.001, 3.001], [-2.0, 3.0, -9.0, 9.0]])
    leaves = (x, torch.ones(2), torch.full((2,), -2.0), torch.full((2,), 3.0))
    expected = gradients(step_of_each(gradient), *leaves)
    with compiled_rounding(kernels):
        found = gradients(step_of_each(gradient), *leaves)
    assert calls and found[0][0, 0] != 0 and found[0][0, 2] == 0
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('x, step', [
    (noise(3, 4, 5, 5, dtype=torch.float64), torch.full((3,), 0.3, dtype=torch.float64)),
    (noise(1, 4, 5, 5), torch.tensor([0.3])),
    (noise(7), torch.tensor(0.3)),
    (noise(3, 1), torch.full((3,), 0.3)),
], ids=['float64', 'one sample', 'one axis', 'one value a sample'])  # fmt: skip
def test_what_does_not_fit_goes_another_way(kernels, calls, x, step):
    quantize = lambda x, step: fake_quantize_step(x, step, -8, 7, next(iter(kernels)))  # noqa: E731
    expected = gradients(quantize, x, step)
    with compiled_rounding(kernels):
        found = gradients(quantize, x, step)
    assert not calls
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_kernels_are_used_within_the_block_only(kernels):
    with pytest.raises(KeyError), compiled_rounding(kernels):
        assert compiled._kernels is kernels
        raise KeyError
    assert compiled._kernels == {}


@pytest.mark.parametrize('script, reason', [
    ('import sys; sys.exit("first line\\n\\nthe reason\\n")', 'the reason'),
    ('import os; os.kill(os.getpid(), 11)', 'the compiler ended with signal 11'),
    ('raise SystemExit(3)', 'the compiler ended with exit code 3'),
], ids=['error', 'fault', 'silent'])  # fmt: skip
def test_a_compiler_that_fails_is_named(monkeypatch, script, reason):
    run = compiled.subprocess.run
    monkeypatch.setattr(compiled.subprocess, 'run', lambda command, **k: run([command[0], '-c', script], **k))
    with pytest.raises(CannotCompile, match=reason):
        compile_rounding.__wrapped__('tanh')


@pytest.mark.parametrize('fault', [FileNotFoundError('no room'), compiled.subprocess.TimeoutExpired('python', 600)])
def test_what_the_system_refuses_is_no_end_of_training(monkeypatch, fault):
    def refuse(*_, **__):
        raise fault

    monkeypatch.setattr(compiled.subprocess, 'run', refuse)
    with pytest.raises(CannotCompile, match=r'no room|timed out after 600 seconds'):
        compile_rounding.__wrapped__('tanh')


def test_values_far_outside_the_range(kernels, calls):
    quantize = lambda x, step: fake_quantize_step(x, step, -8, 7, next(iter(kernels)))  # noqa: E731
    leaves = torch.tensor([[1e33, -1e33, 0.4], [3e30, 0.1, 0.2]]), torch.full((2,), 1e-3)
    expected = gradients(quantize, *leaves)
    with compiled_rounding(kernels):
        found = gradients(quantize, *leaves)
    assert calls
    for one, other in zip(found, expected, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other)


def test_a_kernel_that_computes_something_else_is_not_taken(monkeypatch, tmp_path, compiler):
    monkeypatch.setattr(compiled, '_SLOPE', 1.0)
    with pytest.raises(AssertionError, match='not close'):
        compiled.compile_to('tanh', str(tmp_path / 'k.pt2'))


def test_the_polynomial_is_as_exact_as_it_says():
    u = torch.linspace(-0.5, 0.5, 100_001, dtype=torch.float64)
    squared, ratio = u.square(), 0.0
    for coefficient in reversed(compiled._TANH_SQUARED):
        ratio = ratio * squared + coefficient
    assert (squared * ratio - u.tanh().square()).abs().max() < 1.6e-8
