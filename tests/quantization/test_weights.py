"""Weights on both grids, their bounds and offsets, and many of them at once."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dynq_basicsr.config.quantization import WeightOptions
from dynq_basicsr.quantization import weights as module
from dynq_basicsr.quantization.grids import GRIDS
from dynq_basicsr.quantization.weights import WeightRange, quantize_weights
from tests.quantization.reference import on_grid

CL = torch.channels_last


def holds_for(*strategies):
    quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
    return lambda test: quick(given(*strategies)(test))


numbers = st.floats(-200, 200, width=32, allow_subnormal=False)
values = st.lists(numbers, min_size=1, max_size=40).map(lambda xs: torch.tensor(xs).unsqueeze(0))
uppers = st.floats(1 / 64, 100, width=32)
bit_widths = st.integers(2, 8)
grids = st.sampled_from(GRIDS)


def ranged(weight, upper, bits=4, grid='integer', **options):
    upper = torch.as_tensor(upper)
    granularity = 'channel' if upper.dim() else 'tensor'
    own = WeightRange(weight, WeightOptions(bits=bits, granularity=granularity, grid=grid, **options)).to(weight.dtype)
    own.set(upper)
    return own


def quantize(weight, own, gradient='identity', dtype=None):
    return quantize_weights([weight], [own], gradient, dtype)[0]


def normal(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# -- the bound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('weight', [nn.Conv2d(3, 5, 3).weight, nn.Linear(7, 5).weight])
def test_a_bound_per_tensor_and_per_channel(weight):
    whole = WeightRange(weight, WeightOptions(bits=4))
    whole.set(torch.tensor(0.7))
    assert whole.upper.shape == () and whole.upper.item() == pytest.approx(0.7)
    assert whole.grid().shape == (3, 1)
    channels = WeightRange(weight, WeightOptions(bits=4, granularity='channel'))
    bound = torch.linspace(0.1, 1, 5).view(-1, *[1] * (weight.dim() - 1))
    channels.set(bound)
    assert channels.upper.shape == bound.shape and channels.grid().shape == (3, 5)
    torch.testing.assert_close(channels.upper, bound)
    channels.set(torch.tensor(0.4))
    assert torch.allclose(channels.upper, torch.tensor(0.4))


def test_the_bound_of_a_dead_channel_stays_positive():
    channels = WeightRange(torch.zeros(2, 3), WeightOptions(bits=4, granularity='channel'))
    channels.set(torch.tensor([[0.0], [1.0]]))
    assert (channels.upper > 0).all() and channels.upper.isfinite().all()


# -- values ----------------------------------------------------------------------------------------------------------


@holds_for(values, uppers, bit_widths, grids)
def test_it_is_idempotent_and_monotone(w, upper, bits, grid):
    own = ranged(w, upper, bits, grid)
    once = quantize(w.sort(dim=1).values, own)
    assert torch.equal(quantize(once, own), once)
    assert (once.diff(dim=1) >= 0).all()


@holds_for(uppers, bit_widths, grids)
def test_the_error_is_at_most_half_a_step_inside_the_range(upper, bits, grid):
    own = ranged(torch.zeros(1, 1).double(), upper, bits, grid)
    upper = own.upper.item()
    w = torch.linspace(-upper, upper, 2001, dtype=torch.float64).unsqueeze(0)
    step = 2 * upper / (2**bits - 1) if grid == 'literal' else upper / (2 ** (bits - 1) - 1)
    assert (quantize(w, own) - w).abs().max() <= step / 2 * (1 + 1e-9)


@holds_for(values, uppers, bit_widths)
def test_integers_fit_int8_and_hold_zero(w, upper, bits):
    w = torch.cat([w, torch.tensor([[0.0, -1e6, 1e6]])], dim=1)
    own = ranged(w, upper, bits)
    scale = own.upper / (2 ** (bits - 1) - 1)
    integers = (quantize(w, own).double() / scale.double()).round()
    assert torch.equal(integers.to(torch.int8).double(), integers)
    assert (integers.min(), integers.max(), integers[0, -3]) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0)
    assert torch.equal(integers.to(torch.int8).float() * scale, quantize(w, own))
    assert own.grid().flatten().tolist() == [scale.item(), integers.min().item(), integers.max().item()]


@holds_for(values, uppers, bit_widths)
def test_it_equals_a_plain_loop(w, upper, bits):
    own, high = ranged(w, upper, bits), 2 ** (bits - 1) - 1
    scale = own.upper.detach().numpy() / np.float32(high)
    expected = [min(max(np.rint(value / scale), -high - 1), high) * scale for value in w[0].numpy()]
    assert np.array_equal(quantize(w, own)[0].detach().numpy(), np.array(expected, np.float32))


@holds_for(values, uppers, bit_widths)
def test_the_literal_grid_is_the_published_formula(w, upper, bits):
    """AdaBM Eq. 2 as published: 2^b levels from -u to u, zero not among them."""
    own, levels = ranged(w.double(), upper, bits, 'literal'), 2**bits - 1
    bound = own.upper.item()
    for value, quantized in zip(w[0].double().tolist(), quantize(w.double(), own)[0].tolist(), strict=True):
        position = (min(max(value, -bound), bound) + bound) / (2 * bound) * levels
        if abs(position % 1 - 0.5) > 1e-9:
            assert quantized == pytest.approx(round(position) / levels * 2 * bound - bound, abs=1e-9 * bound)
    assert quantize(torch.zeros(1, 1, dtype=torch.float64), own) != 0


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('shape', [(6, 4, 3, 3), (6, 10)])
def test_per_channel_is_per_tensor_channel_by_channel(grid, shape):
    w = normal(*shape, seed=2, dtype=torch.float32)
    bounds = torch.linspace(0.2, 3, 6)
    whole = quantize(w, ranged(w, bounds.view(-1, *[1] * (len(shape) - 1)), grid=grid))
    for channel in range(6):
        assert torch.equal(whole[channel], quantize(w[channel], ranged(w[channel], bounds[channel], grid=grid)))


@pytest.mark.parametrize('grid', GRIDS)
def test_nan_is_not_hidden(grid):
    w = torch.tensor([[float('nan'), 1.0]])
    assert quantize(w, ranged(w, 1.0, grid=grid)).isnan().tolist() == [[True, False]]


@pytest.mark.parametrize('grid', GRIDS)
def test_the_weight_is_left_alone(grid):
    w = normal(2, 3)
    before = w.clone()
    quantize(w, ranged(w, 1.0, grid=grid))
    assert torch.equal(w, before)


@pytest.mark.parametrize('grid', GRIDS)
def test_the_result_has_the_dtype_that_is_asked_for(grid):
    w = normal(4, 3, 3, 3, dtype=torch.float32)
    own = ranged(w, 1.0, grid=grid)
    half = quantize(w, own, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and torch.equal(half, quantize(w, own).bfloat16())


def test_32_bits_are_the_weight_itself():
    w = nn.Parameter(normal(3, 3, dtype=torch.float32))
    assert quantize(w, WeightRange(w, WeightOptions(bits=32))) is w


# -- gradients -------------------------------------------------------------------------------------------------------


def reference(w, upper, bits, grid):
    if grid == 'literal':
        levels = torch.tensor(2.0**bits - 1, dtype=w.dtype)
        return on_grid(w + upper, 2 * upper / levels, torch.zeros_like(levels), levels) - upper
    high = torch.tensor(2.0 ** (bits - 1) - 1, dtype=w.dtype)
    return on_grid(w, upper / high, -high - 1, high)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('per_channel', [False, True])
def test_gradients(grid, bits, per_channel):
    w, upstream = normal(4, 3, 3, 3).requires_grad_(), normal(4, 3, 3, 3, seed=3)
    own = ranged(w, torch.linspace(0.5, 2, 4).view(4, 1, 1, 1) if per_channel else 1.1, bits, grid)
    out = quantize(w, own)
    found = torch.autograd.grad(out, (w, own.log_upper), upstream)
    upper = own.upper.detach().requires_grad_()
    expected_out = reference(w, upper, bits, grid)
    torch.testing.assert_close(out, expected_out)
    expected = torch.autograd.grad(expected_out, (w, upper), upstream)
    # the parameter is the logarithm of the bound
    for one, other in zip((found[0], found[1] / own.upper), expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('grid', GRIDS)
def test_soft_rounding_is_steepest_between_two_levels(grid):
    w = torch.linspace(-0.9, 0.9, 1001).view(1, -1).requires_grad_()
    quantize(w, ranged(w, 1.0, grid=grid), 'tanh').sum().backward()
    assert 0.85 < w.grad.min() < 0.86 and 1.08 < w.grad.max() < 1.09


# -- many at once ----------------------------------------------------------------------------------------------------

SHAPES = ((6, 4, 3, 3), (6, 4, 1, 1), (6, 10), (4, 6, 3, 3))
OPTIONS = [
    WeightOptions(bits=bits, granularity=granularity, grid=grid, rounding=rounding)
    for bits in (2, 4, 8)
    for granularity in ('tensor', 'channel')
    for grid in GRIDS
    for rounding in ('nearest', 'learned')
] + [WeightOptions(bits=32)]


def mixed(layout=torch.contiguous_format, each=2):
    """Weights of every shape with ranges of every kind, those that go together far apart."""
    generator = torch.Generator().manual_seed(0)
    weights, ranges = [], []
    for _, options, shape in itertools.product(range(each), OPTIONS, SHAPES):
        weight = torch.randn(shape, generator=generator)
        if weight.dim() == 4:
            weight = weight.contiguous(memory_format=layout)
        weights.append(nn.Parameter(weight))
        own = WeightRange(weight, options)
        with torch.no_grad():
            own.log_upper.uniform_(-1, 1, generator=generator)
            if own.offset is not None:
                own.offset.uniform_(-0.5, 0.5, generator=generator)
        ranges.append(own)
    return weights, ranges


def results(weights, ranges, together, gradient, dtype):
    """Quantized weights, and gradients to all that is learned."""
    if together:
        quantized = quantize_weights(weights, ranges, gradient, dtype)
    else:
        quantized = [quantize(*pair, gradient, dtype) for pair in zip(weights, ranges, strict=True)]
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(one.shape, generator=generator).to(one.dtype) for one in quantized]
    leaves = weights + [parameter for own in ranges for parameter in own.parameters()]
    return quantized, torch.autograd.grad(quantized, leaves, upstream, allow_unused=True)


@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
@pytest.mark.parametrize('gradient', ['identity', 'tanh'])
@pytest.mark.parametrize('layout', [torch.contiguous_format, CL])
def test_many_weights_are_one_at_a_time(layout, gradient, dtype):
    weights, ranges = mixed(layout)
    together, found = results(weights, ranges, True, gradient, dtype)
    alone, expected = results(weights, ranges, False, gradient, dtype)
    for weight, own, one, other in zip(weights, ranges, together, alone, strict=True):
        assert torch.equal(one, other) and one.shape == weight.shape and one.stride() == other.stride()
        # of a kernel of one pixel, strides may say the same in two ways
        assert one.stride() == weight.stride() or 1 in weight.shape
        assert weight.dim() == 2 or one.is_contiguous(memory_format=layout)
        assert one.dtype == (weight.dtype if dtype is None or own.options.bits == 32 else dtype)
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)  # of float weights, nobody asks the bound
        if one is not None:
            assert one.shape == other.shape
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('stacked', [0, 6 * 4 * 9 - 1])
def test_weights_too_large_to_stack_are_the_same(monkeypatch, stacked):
    weights, ranges = mixed()
    expected = quantize_weights(weights, ranges, 'identity')
    monkeypatch.setattr(module, 'STACKED', stacked)
    for one, other in zip(quantize_weights(weights, ranges, 'identity'), expected, strict=True):
        assert torch.equal(one, other)


def test_weights_of_one_shape_keep_each_its_own_layout():
    weights = [normal(6, 4, 3, 3, seed=seed, dtype=torch.float32) for seed in range(4)]
    weights[1], weights[2] = (weights[place].contiguous(memory_format=CL) for place in (1, 2))
    for order in (weights, weights[1:]):
        quantized = quantize_weights(order, [ranged(one, 1.0) for one in order], 'identity')
        assert [one.stride() for one in quantized] == [one.stride() for one in order]


def test_weights_of_one_kind_are_one_call_of_the_operator(monkeypatch):
    calls = []
    real = module.fake_quantize
    monkeypatch.setattr(module, 'fake_quantize', lambda x, *rest: calls.append(x.shape) or real(x, *rest))
    weights = [normal(6, 4, 3, 3, seed=seed, dtype=torch.float32) for seed in range(9)]
    quantize_weights(weights, [ranged(one, 1.0) for one in weights], 'identity')
    assert calls == [(9, 6, 4, 3, 3)]


def test_no_weights_are_no_results():
    assert quantize_weights([], [], 'identity') == []
