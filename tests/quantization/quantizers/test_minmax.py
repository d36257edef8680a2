"""One range for all bits: it stays positive and ordered, and both grids are those of the formulas, gradients included.

Values are held against plain loops, gradients against autograd over elementary operations.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynq_basicsr.numerics.fake_quantize import fake_quantize, round_to_integers
from dynq_basicsr.quantization.grids import GRIDS, SMALLEST, integer_grid
from dynq_basicsr.quantization.quantizers.minmax import ActivationRange
from tests.quantization.reference import on_grid, ste


def holds_for(*strategies):
    quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
    return lambda test: quick(given(*strategies)(test))


numbers = st.floats(-200, 200, width=32, allow_subnormal=False)
values = st.lists(numbers, min_size=1, max_size=40).map(lambda xs: torch.tensor(xs).unsqueeze(0))
lowers = st.one_of(st.just(0.0), st.floats(-100, -1 / 64, width=32))
uppers = st.floats(1 / 64, 100, width=32)
bit_widths = st.integers(2, 8)
grids = st.sampled_from(GRIDS)


def ranged(lower, upper, grid='integer', gradient='identity', dtype=torch.float32):
    bounds = ActivationRange((), grid, gradient).to(dtype)
    bounds.set(lower, upper)
    return bounds


def quantize(bounds, x, bits):
    """Activations (N, ...) at bits, a number or (N,)."""
    return bounds.quantize(x, bounds.grid(torch.as_tensor(bits, dtype=x.dtype).reshape(-1)))


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def step_of(bounds, bits):
    return (bounds.upper.double() - bounds.lower.double()).item() / (2**bits - 1)


def dense(bounds, count=2001):
    return torch.linspace(bounds.lower.item(), bounds.upper.item(), count, dtype=torch.float64).unsqueeze(0)


# -- the range -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('lower, upper', [(-3.0, 5.0), (-1e-4, 2e3), (-200.0, 1e-3)])
def test_it_holds_what_was_set(lower, upper):
    bounds = ranged(lower, upper)
    assert bounds.lower.item() == pytest.approx(lower, rel=1e-5)
    assert bounds.upper.item() == pytest.approx(upper, rel=1e-5)


@pytest.mark.parametrize('lower, upper', [(2.0, 5.0), (-5.0, -2.0), (0.0, 0.0)])
def test_it_is_widened_to_hold_zero(lower, upper):
    bounds = ranged(lower, upper)
    lower_bound, upper_bound = bounds.lower.item(), bounds.upper.item()
    assert -2 * SMALLEST <= lower_bound <= 0 or lower_bound == pytest.approx(lower)
    assert 0 < upper_bound <= 2 * SMALLEST or upper_bound == pytest.approx(upper)
    assert lower_bound <= 0 < upper_bound and math.isfinite(1 / (upper_bound - lower_bound))


def test_set_takes_tensors_and_keeps_the_parameters():
    bounds = ActivationRange()
    before = list(bounds.parameters())
    bounds.set(torch.tensor(-2.0), torch.tensor(3.0, dtype=torch.float64))
    assert [id(p) for p in bounds.parameters()] == [id(p) for p in before]
    assert bounds.lower.item() == pytest.approx(-2) and bounds.upper.item() == pytest.approx(3)
    assert all(p.shape == () and p.dtype == torch.float32 and p.requires_grad for p in before)


@pytest.mark.parametrize('push', [-1.0, 1.0])
def test_no_gradient_can_flip_or_cross_the_bounds(push):
    bounds = ranged(-0.3, 0.3)
    optimizer = torch.optim.SGD(bounds.parameters(), lr=1)
    for _ in range(5):
        optimizer.zero_grad()
        (push * 10 * (bounds.lower - bounds.upper)).backward()
        optimizer.step()
        assert bounds.lower <= 0 <= bounds.upper


@pytest.mark.parametrize('size', [1e-3, 1.0, 1e3])
def test_a_step_of_adam_moves_a_bound_by_its_rate_times_itself(size):
    bounds = ranged(-size, 2 * size)
    optimizer = torch.optim.Adam(bounds.parameters(), lr=0.005)
    (bounds.upper - bounds.lower).backward()
    optimizer.step()
    assert bounds.upper.item() == pytest.approx(2 * size * math.exp(-0.005), rel=1e-4)
    assert bounds.lower.item() == pytest.approx(-size * math.exp(-0.005), rel=1e-4)


# -- values ----------------------------------------------------------------------------------------------------------


@holds_for(values, lowers, uppers, bit_widths, grids)
def test_it_is_idempotent(x, lower, upper, bits, grid):
    bounds = ranged(lower, upper, grid)
    once = quantize(bounds, x, bits)
    assert torch.equal(quantize(bounds, once, bits), once)


@holds_for(values, lowers, uppers, bit_widths, grids)
def test_it_is_monotone(x, lower, upper, bits, grid):
    quantized = quantize(ranged(lower, upper, grid), x.sort(dim=1).values, bits)
    assert (quantized.diff(dim=1) >= 0).all()


@holds_for(lowers, uppers, bit_widths, grids)
def test_the_error_is_at_most_half_a_step_inside_the_range(lower, upper, bits, grid):
    bounds = ranged(lower, upper, grid, dtype=torch.float64)
    x = dense(bounds)
    assert (quantize(bounds, x, bits) - x).abs().max() <= step_of(bounds, bits) / 2 * (1 + 1e-9)


@holds_for(values, lowers, uppers, bit_widths)
def test_there_are_at_most_two_to_the_bits_integer_levels_with_zero_among_them(x, lower, upper, bits):
    bounds = ranged(lower, upper)
    quantized = quantize(bounds, torch.cat([x, x.new_zeros(1, 1)], dim=1), bits).detach()
    assert quantized[0, -1] == 0
    integers = quantized.double() / step_of(bounds, bits)
    assert torch.allclose(integers, integers.round(), atol=1e-3)
    assert integers.round().unique().numel() <= 2**bits
    assert float(integers.max() - integers.min()) <= 2**bits - 1 + 1e-3


@holds_for(lowers, uppers, st.integers(2, 7), grids)
def test_more_bits_are_never_worse(lower, upper, bits, grid):
    bounds = ranged(lower, upper, grid, dtype=torch.float64)
    x = dense(bounds)
    fewer, more = ((quantize(bounds, x, b) - x).square().mean() for b in (bits, bits + 1))
    assert more <= fewer * (1 + 1e-6)


@holds_for(
    st.lists(st.sampled_from([2, 3, 4, 5, 6, 7, 8]), min_size=1, max_size=6), lowers, uppers, grids, st.integers(2, 4)
)
def test_a_batch_of_n_bit_widths_is_n_batches_of_one(bits, lower, upper, grid, dims):
    x = 60 * normal(len(bits), *[5, 4, 3][: dims - 1], seed=len(bits), dtype=torch.float32)
    bounds = ranged(lower, upper, grid)
    together = quantize(bounds, x, bits)
    for index, one in enumerate(bits):
        assert torch.equal(together[index : index + 1], quantize(bounds, x[index : index + 1], one))
    assert torch.equal(quantize(bounds, x, [bits[0]] * len(bits)), quantize(bounds, x, bits[0]))


@holds_for(values, lowers, uppers, bit_widths)
def test_it_equals_a_plain_loop(x, lower, upper, bits):
    bounds = ranged(lower, upper)
    lower, upper = bounds.lower.detach().numpy(), bounds.upper.detach().numpy()
    scale = (-lower + upper) / np.float32(2**bits - 1)
    zero_point = np.rint(-lower / scale)
    expected = [
        min(max(np.rint(value / scale), -zero_point), 2**bits - 1 - zero_point) * scale for value in x[0].numpy()
    ]
    assert np.array_equal(quantize(bounds, x, bits)[0].detach().numpy(), np.array(expected, np.float32))


@holds_for(values, lowers, uppers, bit_widths)
def test_the_literal_grid_is_the_printed_formula(x, lower, upper, bits):
    """AdaBM Eq. 1, as the published code computes it: clip, normalise, round, undo."""
    bounds = ranged(lower, upper, 'literal', dtype=torch.float64)
    low, high, levels = bounds.lower.item(), bounds.upper.item(), 2**bits - 1
    y = quantize(bounds, x.double(), bits)[0].tolist()
    for value, got in zip(x[0].double().tolist(), y, strict=True):
        position = (min(max(value, low), high) - low) / (high - low) * levels
        if abs(position % 1 - 0.5) > 1e-9:  # ties may fall either way, for the order of operations differs
            assert got == pytest.approx(round(position) / levels * (high - low) + low, abs=1e-9 * (high - low))


def test_a_range_without_negatives_is_unsigned():
    x = torch.tensor([[-3.0, 0.0, 0.4, 0.6, 15.0, 99.0]])
    exactly = integer_grid(torch.zeros(1), torch.tensor([15.0]), 4)
    assert fake_quantize(x, exactly).tolist() == [[0, 0, 0, 1, 15, 15]]
    grid = ranged(0, 15).grid(torch.tensor([4.0])).detach()
    assert round_to_integers(x, grid).tolist() == [[0, 0, 0, 1, 15, 15]]
    torch.testing.assert_close(grid, exactly, rtol=1e-6, atol=0)


@pytest.mark.parametrize('grid', GRIDS)
def test_it_keeps_channels_last_and_its_values(grid):
    x, bounds, bits = normal(2, 8, 5, 7, dtype=torch.float32), ranged(-1.5, 2.0, grid), [3.0, 6.0]
    last = quantize(bounds, x.contiguous(memory_format=torch.channels_last), bits)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, quantize(bounds, x, bits))


@pytest.mark.parametrize('grid', GRIDS)
def test_nan_is_not_hidden(grid):
    x = torch.tensor([[float('nan'), 1.0]])
    assert quantize(ranged(-1.0, 1.0, grid), x, 4).isnan().tolist() == [[True, False]]


@pytest.mark.parametrize('grid', GRIDS)
def test_the_input_is_left_alone(grid):
    x = normal(2, 3, seed=1)
    before = x.clone()
    quantize(ranged(-1.0, 1.0, grid), x, 4)
    assert torch.equal(x, before)


@pytest.mark.parametrize('grid', GRIDS)
def test_the_result_has_the_dtype_that_is_asked_for(grid):
    x, bounds = normal(2, 30, dtype=torch.float32), ranged(-1.5, 2.0, grid)
    rows = bounds.grid(torch.tensor([4.0]))
    half = bounds.quantize(x, rows, torch.bfloat16)
    assert half.dtype == torch.bfloat16 and torch.equal(half, bounds.quantize(x, rows).bfloat16())


# -- gradients -------------------------------------------------------------------------------------------------------


def reference(x, lower, upper, bits, grid):
    bits = bits.view(-1, *[1] * (x.dim() - 1))
    levels = 2**bits - 1
    scale = (upper - lower) / levels
    if grid == 'literal':
        return on_grid(x - lower, scale, torch.zeros_like(levels), levels) + lower
    zero_point = ste(-lower / scale)
    return on_grid(x, scale, -zero_point, levels - zero_point)


def leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def gradients(bounds, x, bits, upstream):
    """Result, and gradients to x, lower, upper and bits: parameters are logarithms of the bounds' magnitudes."""
    x, bits = leaf(x), leaf(bits)
    out = bounds.quantize(x, bounds.grid(bits))
    to_x, to_lower, to_upper, to_bits = torch.autograd.grad(
        out, (x, bounds.log_lower, bounds.log_upper, bits), upstream
    )
    return out, (to_x, to_lower / bounds.lower, to_upper / bounds.upper, to_bits)


def double(lower, upper, grid):
    return ranged(lower, upper, grid, dtype=torch.float64)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('lower, upper', [(-1.3, 0.9), (-0.05, 2.0), (-2.0, 0.3), (-1e-8, 1.7)])
@pytest.mark.parametrize('shape', [(3, 2, 6, 5), (3, 8, 4), (3, 40)])
def test_gradients(grid, lower, upper, shape):
    x, bits, bounds = 1.5 * normal(*shape), torch.tensor([2.0, 4.0, 7.0]).double(), double(lower, upper, grid)
    upstream = normal(*shape, seed=3)
    out, found = gradients(bounds, x, bits, upstream)
    leaves = [leaf(one) for one in (x, bounds.lower, bounds.upper, bits)]
    expected_out = reference(*leaves, grid)
    torch.testing.assert_close(out, expected_out)
    expected = torch.autograd.grad(expected_out, leaves, upstream)
    for name, one, other in zip(('x', 'lower', 'upper', 'bits'), found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('grid', GRIDS)
def test_the_gradient_to_x_is_one_inside_and_zero_outside(grid):
    x = torch.tensor([[-9.0, -1.001, -0.999, -0.2, 0.0, 0.3, 1.999, 2.001, 9.0]], requires_grad=True)
    # 15 steps of 0.2: the zero point is 5 exactly, so that grid and range end together
    quantize(ranged(-1.0, 2.0, grid), x, 4).sum().backward()
    assert x.grad.tolist() == [[0, 0, 1, 1, 1, 1, 1, 0, 0]]


@pytest.mark.parametrize('grid', GRIDS)
def test_the_gradient_to_a_bound_is_one_outside(grid):
    bounds, bits = double(-1.0, 2.0, grid), torch.tensor([4.0]).double()
    for value, count, lower, upper in ((-5.0, 3, 3, 0), (5.0, 4, 0, 4)):
        x = torch.full((1, count), value, dtype=torch.float64)
        _, (_, to_lower, to_upper, _) = gradients(bounds, x, bits, torch.ones_like(x))
        assert (to_lower.item(), to_upper.item()) == (pytest.approx(lower, abs=1e-9), pytest.approx(upper, abs=1e-9))


def test_the_gradient_to_a_bound_outside_a_range_that_is_off_the_grid():
    """Rounding the zero point shifts it by at most half a level."""
    x = torch.full((1, 1), 9.0, dtype=torch.float64)
    bounds = double(-1.03, 2.0, 'integer')
    _, (_, to_lower, to_upper, _) = gradients(bounds, x, torch.tensor([4.0]).double(), torch.ones_like(x))
    assert to_upper.item() == pytest.approx(1, abs=0.5 / 15 + 1e-9)
    assert to_lower.item() == pytest.approx(0, abs=0.5 / 15 + 1e-9)


@pytest.mark.parametrize('grid', GRIDS)
def test_the_gradient_to_bits_reaches_each_sample_alone(grid):
    weights = normal(2, 50, seed=5)
    weights[1] = 0
    _, (*_, to_bits) = gradients(
        double(-1.1, 1.4, grid), normal(2, 50, seed=4), torch.tensor([3.0, 5.0]).double(), weights
    )
    assert to_bits[0] != 0 and to_bits[1] == 0


@pytest.mark.parametrize('grid', GRIDS)
def test_gradients_of_a_batch_are_those_of_its_samples(grid):
    x, upstream, bounds = normal(3, 2, 4, 4, seed=6), normal(3, 2, 4, 4, seed=3), double(-1.2, 1.0, grid)
    bits = torch.tensor([2.0, 5.0, 8.0]).double()
    _, together = gradients(bounds, x, bits, upstream)
    sums = [torch.zeros(()).double(), torch.zeros(()).double()]
    for i in range(3):
        _, alone = gradients(bounds, x[i : i + 1], bits[i : i + 1], upstream[i : i + 1])
        torch.testing.assert_close(together[0][i : i + 1], alone[0])
        torch.testing.assert_close(together[3][i : i + 1], alone[3])
        sums = [total + one for total, one in zip(sums, alone[1:3], strict=True)]
    torch.testing.assert_close(list(together[1:3]), sums)


@pytest.mark.parametrize('grid', GRIDS)
def test_channels_last_gradients_are_the_same(grid):
    x, upstream, bounds = normal(2, 4, 5, 6, seed=7), normal(2, 4, 5, 6, seed=3), double(-0.7, 1.2, grid)
    bits = torch.tensor([3.0, 5.0]).double()
    _, plain = gradients(bounds, x, bits, upstream)
    _, last = gradients(bounds, x.contiguous(memory_format=torch.channels_last), bits, upstream)
    for one, other in zip(plain, last, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize('grid', GRIDS)
def test_soft_rounding_is_steepest_between_two_levels(grid):
    x = torch.linspace(-0.9, 0.9, 1001).view(1, -1).requires_grad_()
    quantize(ranged(-1.0, 2.0, grid, 'tanh'), x, 4).sum().backward()
    assert 0.85 < x.grad.min() < 0.86 and 1.08 < x.grad.max() < 1.09
