"""Properties of both quantizers, and plain-loop references of both grids."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynq_basicsr.quantization.fake_quantize import GRIDS, fake_quantize_activation, fake_quantize_weight, round_ste


def holds_for(*strategies):
    quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
    return lambda test: quick(given(*strategies)(test))


numbers = st.floats(-200, 200, width=32, allow_subnormal=False)
values = st.lists(numbers, min_size=1, max_size=40).map(lambda xs: torch.tensor(xs).unsqueeze(0))
lowers = st.one_of(st.just(0.0), st.floats(-100, -1 / 64, width=32)).map(torch.tensor)
uppers = st.floats(1 / 64, 100, width=32).map(torch.tensor)
bit_widths = st.integers(2, 8)
grids = st.sampled_from(GRIDS)


def step_of(lower, upper, bits):
    return float(upper - lower) / (2**bits - 1)


def dense(lower, upper, count=2001):
    return torch.linspace(float(lower), float(upper), count, dtype=torch.float64).unsqueeze(0)


# -- activations -----------------------------------------------------------------------------------------------------


@holds_for(values, lowers, uppers, bit_widths, grids)
def test_activation_is_idempotent(x, lower, upper, bits, grid):
    once = fake_quantize_activation(x, lower, upper, bits, grid)
    assert torch.equal(fake_quantize_activation(once, lower, upper, bits, grid), once)


@holds_for(values, lowers, uppers, bit_widths, grids)
def test_activation_is_monotone(x, lower, upper, bits, grid):
    quantized = fake_quantize_activation(x.sort(dim=1).values, lower, upper, bits, grid)
    assert (quantized.diff(dim=1) >= 0).all()


@holds_for(lowers, uppers, bit_widths, grids)
def test_activation_error_is_at_most_half_a_step_inside_the_range(lower, upper, bits, grid):
    x = dense(lower, upper)
    error = (fake_quantize_activation(x, lower.double(), upper.double(), bits, grid) - x).abs().max()
    assert error <= step_of(lower.double(), upper.double(), bits) / 2 * (1 + 1e-9)


@holds_for(values, lowers, uppers, bit_widths)
def test_activation_has_at_most_two_to_the_bits_integer_levels_with_zero_among_them(x, lower, upper, bits):
    quantized = fake_quantize_activation(torch.cat([x, x.new_zeros(1, 1)], dim=1), lower, upper, bits)
    assert quantized[0, -1] == 0
    integers = quantized.double() / step_of(lower.double(), upper.double(), bits)
    assert torch.allclose(integers, integers.round(), atol=1e-3)
    assert integers.round().unique().numel() <= 2**bits
    assert float(integers.max() - integers.min()) <= 2**bits - 1 + 1e-3


@holds_for(lowers, uppers, st.integers(2, 7), grids)
def test_activation_with_more_bits_is_never_worse(lower, upper, bits, grid):
    x = dense(lower, upper)
    fewer, more = (
        (fake_quantize_activation(x, lower.double(), upper.double(), b, grid) - x).square().mean()
        for b in (bits, bits + 1)
    )
    assert more <= fewer * (1 + 1e-6)


@holds_for(
    st.lists(st.sampled_from([2, 3, 4, 5, 6, 7, 8]), min_size=1, max_size=6), lowers, uppers, grids, st.integers(2, 4)
)
def test_batch_of_n_bit_widths_is_n_batches_of_one(bits, lower, upper, grid, dims):
    shape = (len(bits), *[5, 4, 3][: dims - 1])
    x = 60 * torch.randn(shape, generator=torch.Generator().manual_seed(len(bits)))
    together = fake_quantize_activation(x, lower, upper, torch.tensor(bits, dtype=torch.float32), grid)
    for index, one in enumerate(bits):
        alone = fake_quantize_activation(x[index : index + 1], lower, upper, torch.tensor([float(one)]), grid)
        assert torch.equal(together[index : index + 1], alone)
        assert torch.equal(fake_quantize_activation(x[index : index + 1], lower, upper, one, grid), alone)


@holds_for(values, lowers, uppers, bit_widths)
def test_activation_equals_a_plain_loop(x, lower, upper, bits):
    scale = (lower.neg() + upper).numpy() / np.float32(2**bits - 1)
    zero_point = np.rint(-lower.numpy() / scale)
    expected = [
        min(max(np.rint(value / scale), -zero_point), 2**bits - 1 - zero_point) * scale for value in x[0].numpy()
    ]
    assert np.array_equal(fake_quantize_activation(x, lower, upper, bits)[0].numpy(), np.array(expected, np.float32))


@holds_for(values, lowers, uppers, bit_widths)
def test_literal_activation_is_the_printed_formula(x, lower, upper, bits):
    """AdaBM Eq. 1, as the published code computes it: clip, normalise, round, undo."""
    low, high, levels = float(lower), float(upper), 2**bits - 1
    y = fake_quantize_activation(x.double(), lower.double(), upper.double(), bits, 'literal')[0].numpy()
    for value, got in zip(x[0].double().tolist(), y, strict=True):
        position = (min(max(value, low), high) - low) / (high - low) * levels
        if abs(position % 1 - 0.5) > 1e-9:  # ties may fall either way, for the order of operations differs
            assert got == pytest.approx(round(position) / levels * (high - low) + low, abs=1e-9 * (high - low))


def test_activation_range_without_negatives_is_unsigned():
    x = torch.tensor([[-3.0, 0.0, 0.4, 0.6, 15.0, 99.0]])
    assert fake_quantize_activation(x, torch.tensor(0.0), torch.tensor(15.0), 4).tolist() == [[0, 0, 0, 1, 15, 15]]


def test_activation_keeps_channels_last_and_its_values():
    x = torch.randn(2, 8, 5, 7, generator=torch.Generator().manual_seed(0))
    bits, bounds = torch.tensor([3.0, 6.0]), (torch.tensor(-1.5), torch.tensor(2.0))
    last = fake_quantize_activation(x.contiguous(memory_format=torch.channels_last), *bounds, bits)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, fake_quantize_activation(x, *bounds, bits))


@pytest.mark.parametrize('grid', GRIDS)
def test_nan_is_not_hidden(grid):
    x = torch.tensor([[float('nan'), 1.0]])
    assert fake_quantize_activation(x, torch.tensor(-1.0), torch.tensor(1.0), 4, grid).isnan().tolist() == [
        [True, False]
    ]
    assert fake_quantize_weight(x, torch.tensor(1.0), 4, grid).isnan().tolist() == [[True, False]]


def test_inputs_are_left_alone():
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    for grid in GRIDS:
        fake_quantize_activation(x, torch.tensor(-1.0), torch.tensor(1.0), 4, grid)
        fake_quantize_weight(x, torch.tensor(1.0), 4, grid)
    assert torch.equal(x, before)


# -- weights ---------------------------------------------------------------------------------------------------------


@holds_for(values, uppers, bit_widths, grids)
def test_weight_is_idempotent_and_monotone(w, upper, bits, grid):
    once = fake_quantize_weight(w.sort(dim=1).values, upper, bits, grid)
    assert torch.equal(fake_quantize_weight(once, upper, bits, grid), once)
    assert (once.diff(dim=1) >= 0).all()


@holds_for(uppers, bit_widths, grids)
def test_weight_error_is_at_most_half_a_step_inside_the_range(upper, bits, grid):
    upper = upper.double()
    w = dense(-upper, upper)
    step = float(2 * upper) / (2**bits - 1) if grid == 'literal' else float(upper) / (2 ** (bits - 1) - 1)
    assert (fake_quantize_weight(w, upper, bits, grid) - w).abs().max() <= step / 2 * (1 + 1e-9)


@holds_for(values, uppers, bit_widths)
def test_weight_integers_fit_int8_and_hold_zero(w, upper, bits):
    w = torch.cat([w, torch.tensor([[0.0, -1e6, 1e6]])], dim=1)
    scale = upper / (2 ** (bits - 1) - 1)
    integers = (fake_quantize_weight(w, upper, bits).double() / scale.double()).round()
    assert torch.equal(integers.to(torch.int8).double(), integers)
    assert (integers.min(), integers.max(), integers[0, -3]) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0)
    assert torch.equal(integers.to(torch.int8).float() * scale, fake_quantize_weight(w, upper, bits))


@holds_for(values, uppers, bit_widths)
def test_weight_equals_a_plain_loop(w, upper, bits):
    high = 2 ** (bits - 1) - 1
    scale = upper.numpy() / np.float32(high)
    expected = [min(max(np.rint(value / scale), -high - 1), high) * scale for value in w[0].numpy()]
    assert np.array_equal(fake_quantize_weight(w, upper, bits)[0].numpy(), np.array(expected, np.float32))


@holds_for(values, uppers, bit_widths)
def test_literal_weight_is_the_published_formula(w, upper, bits):
    """AdaBM Eq. 2 as published: 2^b levels from -u to u, zero not among them."""
    bound, levels = float(upper), 2**bits - 1
    got = fake_quantize_weight(w.double(), upper.double(), bits, 'literal')[0]
    for value, quantized in zip(w[0].double().tolist(), got.tolist(), strict=True):
        position = (min(max(value, -bound), bound) + bound) / (2 * bound) * levels
        if abs(position % 1 - 0.5) > 1e-9:
            assert quantized == pytest.approx(round(position) / levels * 2 * bound - bound, abs=1e-9 * bound)
    assert fake_quantize_weight(torch.zeros(1, dtype=torch.float64), upper.double(), bits, 'literal') != 0


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('shape', [(6, 4, 3, 3), (6, 10)])
def test_per_channel_is_per_tensor_channel_by_channel(grid, shape):
    w = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    uppers = torch.linspace(0.2, 3, 6).view(-1, *[1] * (len(shape) - 1))
    whole = fake_quantize_weight(w, uppers, 4, grid)
    for channel in range(6):
        alone = fake_quantize_weight(w[channel], uppers[channel].squeeze(), 4, grid)
        assert torch.equal(whole[channel], alone)


def test_round_ste_rounds_half_to_even_with_the_gradient_of_the_identity():
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5, 127.3, 0.7], requires_grad=True)
    y = round_ste(x)
    y.sum().backward()
    assert y.tolist() == [-2, 0, 0, 2, 2, 127, 1]
    assert x.grad.tolist() == [1] * 7
