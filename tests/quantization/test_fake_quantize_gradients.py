"""The fused gradients against autograd over elementary operations."""

import pytest
import torch

from dynq_basicsr.quantization.fake_quantize import (
    GRIDS,
    fake_quantize_activation,
    fake_quantize_step,
    fake_quantize_weight,
)


def ste(x):
    return x + (x.round() - x).detach()


def on_grid(x, scale, low, high):
    """Clip, then round, so that the gradient is that of clipping; masks written out, for clamp splits ties."""
    v = x / scale
    inside = ((v >= low) & (v <= high)).to(x.dtype)
    below, above = (v < low).to(x.dtype), (v > high).to(x.dtype)
    return scale * (inside * ste(v) + below * low + above * high)


def reference_activation(x, lower, upper, bits, grid):
    bits = bits.view(-1, *[1] * (x.dim() - 1))
    levels = 2**bits - 1
    scale = (upper - lower) / levels
    if grid == 'literal':
        return on_grid(x - lower, scale, torch.zeros_like(levels), levels) + lower
    zero_point = ste(-lower / scale)
    return on_grid(x, scale, -zero_point, levels - zero_point)


def reference_weight(w, upper, bits, grid):
    if grid == 'literal':
        levels = torch.tensor(2.0**bits - 1, dtype=w.dtype)
        return on_grid(w + upper, 2 * upper / levels, torch.zeros_like(levels), levels) - upper
    high = torch.tensor(2.0 ** (bits - 1) - 1, dtype=w.dtype)
    return on_grid(w, upper / high, -high - 1, high)


def gradients(function, inputs, grid, seed=3):
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    out = function(*leaves, grid)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=out.dtype)
    return out, torch.autograd.grad(out, leaves, upstream)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('lower, upper', [(-1.3, 0.9), (-0.05, 2.0), (-2.0, 0.3), (-1e-8, 1.7)])
@pytest.mark.parametrize('shape', [(3, 2, 6, 5), (3, 8, 4), (3, 40)])
def test_activation_gradients(grid, lower, upper, shape):
    x = 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inputs = (x, torch.tensor(lower).double(), torch.tensor(upper).double(), torch.tensor([2.0, 4.0, 7.0]).double())
    out, found = gradients(fake_quantize_activation, inputs, grid)
    expected_out, expected = gradients(reference_activation, inputs, grid)
    torch.testing.assert_close(out, expected_out)
    for name, one, other in zip(('x', 'lower', 'upper', 'bits'), found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('per_channel', [False, True])
def test_weight_gradients(grid, bits, per_channel):
    w = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    upper = (
        torch.linspace(0.5, 2, 4, dtype=torch.float64).view(4, 1, 1, 1) if per_channel else torch.tensor(1.1).double()
    )
    out, found = gradients(lambda w, u, g: fake_quantize_weight(w, u, bits, g), (w, upper), grid)
    expected_out, expected = gradients(lambda w, u, g: reference_weight(w, u, bits, g), (w, upper), grid)
    torch.testing.assert_close(out, expected_out)
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('grid', GRIDS)
def test_x_gradient_is_one_inside_and_zero_outside(grid):
    x = torch.tensor([[-9.0, -1.001, -0.999, -0.2, 0.0, 0.3, 1.999, 2.001, 9.0]], requires_grad=True)
    # 15 steps of 0.2: the zero point is 5 exactly, so that grid and range end together
    fake_quantize_activation(x, torch.tensor(-1.0), torch.tensor(2.0), 4, grid).sum().backward()
    assert x.grad.tolist() == [[0, 0, 1, 1, 1, 1, 1, 0, 0]]


@pytest.mark.parametrize('grid', GRIDS)
def test_bounds_gradient_is_one_outside(grid):
    lower, upper = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (-1.0, 2.0))
    below, above = torch.full((1, 3), -5.0, dtype=torch.float64), torch.full((1, 4), 5.0, dtype=torch.float64)
    fake_quantize_activation(below, lower, upper, 4, grid).sum().backward()
    assert (lower.grad.item(), upper.grad.item()) == (pytest.approx(3, abs=1e-9), pytest.approx(0, abs=1e-9))
    lower.grad = upper.grad = None
    fake_quantize_activation(above, lower, upper, 4, grid).sum().backward()
    assert (lower.grad.item(), upper.grad.item()) == (pytest.approx(0, abs=1e-9), pytest.approx(4, abs=1e-9))


def test_bounds_gradient_outside_a_range_that_is_off_the_grid():
    """Rounding the zero point shifts it by at most half a level."""
    lower, upper = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (-1.03, 2.0))
    fake_quantize_activation(torch.full((1, 1), 9.0, dtype=torch.float64), lower, upper, 4).sum().backward()
    assert upper.grad.item() == pytest.approx(1, abs=0.5 / 15 + 1e-9)
    assert lower.grad.item() == pytest.approx(0, abs=0.5 / 15 + 1e-9)


@pytest.mark.parametrize('grid', GRIDS)
def test_bits_gradient_reaches_each_sample_alone(grid):
    x = torch.randn(2, 50, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    bits = torch.tensor([3.0, 5.0], dtype=torch.float64, requires_grad=True)
    lower, upper = torch.tensor(-1.1).double(), torch.tensor(1.4).double()
    weights = torch.randn(2, 50, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    (weights * fake_quantize_activation(x, lower, upper, bits, grid))[0].sum().backward()
    assert bits.grad[0] != 0 and bits.grad[1] == 0


@pytest.mark.parametrize('grid', GRIDS)
def test_gradients_of_a_batch_are_those_of_its_samples(grid):
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    rest = (torch.tensor(-1.2).double(), torch.tensor(1.0).double())
    bits = torch.tensor([2.0, 5.0, 8.0]).double()
    _, together = gradients(lambda *a: fake_quantize_activation(*a), (x, *rest, bits), grid)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    sums = [torch.zeros(()).double(), torch.zeros(()).double()]
    for i in range(3):
        leaves = [t.clone().requires_grad_() for t in (x[i : i + 1], *rest, bits[i : i + 1])]
        out = fake_quantize_activation(*leaves, grid)
        alone = torch.autograd.grad(out, leaves, upstream[i : i + 1])
        torch.testing.assert_close(together[0][i : i + 1], alone[0])
        torch.testing.assert_close(together[3][i : i + 1], alone[3])
        sums = [total + one for total, one in zip(sums, alone[1:3], strict=True)]
    torch.testing.assert_close(list(together[1:3]), sums)


def test_channels_last_gradients_are_the_same():
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    inputs = (torch.tensor(-0.7).double(), torch.tensor(1.2).double(), torch.tensor([3.0, 5.0]).double())
    for grid in GRIDS:
        _, plain = gradients(fake_quantize_activation, (x, *inputs), grid)
        _, last = gradients(fake_quantize_activation, (x.contiguous(memory_format=torch.channels_last), *inputs), grid)
        for one, other in zip(plain, last, strict=True):
            torch.testing.assert_close(one, other)


class _SoftRound(torch.autograd.Function):
    """Rounding whose gradient is that of QuantSR's tanh between two levels, found by autograd."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return v.round()

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            v = ctx.saved_tensors[0].detach().requires_grad_()
            soft = (torch.tanh(v - v.detach().floor() - 0.5) / torch.tanh(torch.tensor(0.5, dtype=v.dtype)) + 1) / 2
            (slope,) = torch.autograd.grad(soft.sum(), v)
        return grad * slope


@pytest.mark.parametrize('gradient', ['identity', 'tanh'])
@pytest.mark.parametrize('low, high', [(0.0, 15.0), (-8.0, 7.0), (-7.0, 7.0)])
def test_step_gradients(gradient, low, high):
    x = 1.5 * torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    step = torch.tensor([0.05, 0.2, 0.7], dtype=torch.float64)
    limits = [torch.full((3,), one, dtype=torch.float64) for one in (low, high)]
    rounding = ste if gradient == 'identity' else _SoftRound.apply

    def reference(x, step, low, high, _):
        step, low, high = (one.view(-1, 1, 1, 1) for one in (step, low, high))
        v = x / step
        inside, below, above = ((v >= low) & (v <= high)).double(), (v < low).double(), (v > high).double()
        return step * (inside * rounding(v) + below * low + above * high)

    out, found = gradients(fake_quantize_step, (x, step, *limits), gradient)
    expected_out, expected = gradients(reference, (x, step, *limits), gradient)
    torch.testing.assert_close(out, expected_out)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('quantize', [
    lambda w: fake_quantize_weight(w, torch.tensor(1.0), 4, gradient='tanh'),
    lambda x: fake_quantize_activation(x, torch.tensor(-1.0), torch.tensor(2.0), 4, gradient='tanh'),
])  # fmt: skip
def test_soft_rounding_is_steepest_between_two_levels(quantize):
    x = torch.linspace(-0.9, 0.9, 1001, requires_grad=True)
    quantize(x.view(1, -1)).sum().backward()
    assert 0.85 < x.grad.min() < 0.86 and 1.08 < x.grad.max() < 1.09
