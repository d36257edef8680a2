"""Grids against plain Python numbers."""

import itertools

import pytest
import torch

from dynq_basicsr.quantization.grids import integer_grid, literal_grid, round_ste, snap, weight_grid

RANGES = [(-1.5, 2.0), (0.0, 6.0), (-3.0, 0.0), (-0.01, 40.0), (-7.25, 1e-3)]


def nearest(x, scale, low, high):
    """``scale * clamp(round(x / scale), low, high)`` of Python floats; round goes to even, as PyTorch's."""
    return scale * min(max(round(x / scale), low), high)


@pytest.mark.parametrize('bits', [2, 3, 4, 8])
@pytest.mark.parametrize('lower, upper', RANGES)
def test_the_integer_grid_has_all_levels_and_zero(lower, upper, bits):
    scale, low, high = integer_grid(torch.tensor(lower).double(), torch.tensor(upper).double(), bits).tolist()
    assert scale == pytest.approx((upper - lower) / (2**bits - 1))
    assert low == -round(-lower / scale) and high - low == 2**bits - 1
    assert low <= 0 <= high


@pytest.mark.parametrize('bits', [2, 4, 8])
@pytest.mark.parametrize('lower, upper', RANGES)
def test_the_literal_grid_starts_at_the_lower_bound(lower, upper, bits):
    grid = literal_grid(torch.tensor(lower).double(), torch.tensor(upper).double(), bits)
    scale, low, high = grid.tolist()
    assert (low, high) == (0, 2**bits - 1) and scale == pytest.approx((upper - lower) / high)
    x = torch.tensor([lower - 1, lower, upper, upper + 1]).double()
    expected = torch.tensor([lower, lower, upper, upper]).double()
    torch.testing.assert_close(snap(x - lower, grid.unsqueeze(1)) + lower, expected)


@pytest.mark.parametrize('bits', range(2, 9))
def test_the_weight_grid_is_that_of_signed_integers(bits):
    scale, low, high = weight_grid(torch.tensor([0.5, 2.0]), bits)
    assert low.tolist() == [-(2 ** (bits - 1))] * 2 and high.tolist() == [2 ** (bits - 1) - 1] * 2
    torch.testing.assert_close(scale * high, torch.tensor([0.5, 2.0]))


@pytest.mark.parametrize('make', [integer_grid, literal_grid])
def test_ranges_and_bits_broadcast(make):
    lower, upper = -torch.rand(4, 1) - 0.1, torch.rand(4, 1) + 0.1
    bits = torch.tensor([2.0, 4.0, 8.0])
    grid = make(lower, upper, bits)
    assert grid.shape == (3, 4, 3)
    for row, column in itertools.product(range(4), range(3)):
        assert torch.equal(grid[:, row, column], make(lower[row, 0], upper[row, 0], int(bits[column])))
    assert make(lower, upper, 4).shape == make(lower, upper, torch.tensor(4.0)).shape == (3, 4, 1)


@pytest.mark.parametrize('lower, upper', RANGES)
def test_snapping_equals_a_plain_loop(lower, upper):
    x = torch.cat([torch.linspace(-9, 45, 400).double(), torch.tensor([0.0, lower, upper]).double()])
    grids = integer_grid(
        torch.tensor(lower).double(), torch.tensor(upper).double(), torch.tensor([[2.0], [5.5]]).double()
    )
    snapped = snap(x, grids)
    assert snapped.shape == (2, len(x))
    for row, (scale, low, high) in zip(snapped.tolist(), grids.squeeze(2).T.tolist(), strict=True):
        assert row == [nearest(value, scale, low, high) for value in x.tolist()]
    assert (snapped[:, 400] == 0).all()


def test_snapping_leaves_its_argument_alone_and_halves_go_to_even():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert snap(x, torch.tensor([1.0, -8.0, 7.0])).tolist() == [0, 2, 2, 0, -2]
    assert x.tolist() == [0.5, 1.5, 2.5, -0.5, -1.5]


def test_snapped_channels_last_stays_so():
    x = torch.randn(2, 8, 5, 7).contiguous(memory_format=torch.channels_last)
    assert snap(x, torch.tensor([0.1, -8.0, 7.0])).is_contiguous(memory_format=torch.channels_last)


def test_rounding_has_the_gradient_of_the_identity():
    x = torch.tensor([-1.5, -0.2, 0.5, 2.7, 1e6 + 0.5], requires_grad=True)
    rounded = round_ste(x)
    assert torch.equal(rounded, x.round())
    rounded.sum().backward()
    assert torch.equal(x.grad, torch.ones(5))


def test_grids_have_a_gradient_to_range_and_bits():
    """To the zero point as if it were not rounded: low = l / S, high = levels + l / S, S = (u - l) / levels."""
    lower, upper, bits = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (-1.3, 2.1, 4.0))
    for part, formula in enumerate(
        (
            lambda low, high, levels: (high - low) / levels,
            lambda low, high, levels: low * levels / (high - low),
            lambda low, high, levels: levels + low * levels / (high - low),
        )
    ):
        found = torch.autograd.grad(integer_grid(lower, upper, bits)[part], (lower, upper, bits))
        expected = torch.autograd.grad(formula(lower, upper, 2**bits - 1), (lower, upper, bits))
        torch.testing.assert_close(found, expected)
    scale_only = torch.autograd.grad(literal_grid(lower, upper, bits)[0], (lower, upper, bits))
    expected = torch.autograd.grad((upper - lower) / (2**bits - 1), (lower, upper, bits))
    torch.testing.assert_close(scale_only, expected)


def test_a_weight_grid_has_a_gradient_to_its_bound():
    upper = torch.tensor([0.5, 2.0], requires_grad=True)
    weight_grid(upper, 4).sum().backward()
    torch.testing.assert_close(upper.grad, torch.full((2,), 1 / 7))


def test_the_dtype_is_that_of_the_range():
    for make in (integer_grid, literal_grid):
        assert make(torch.tensor(-1.0).double(), torch.tensor(1.0).double(), 4).dtype == torch.float64
        assert make(torch.tensor(-1.0), torch.tensor(1.0), torch.tensor(4.0)).dtype == torch.float32
    assert weight_grid(torch.ones(2, 1, 1, 1), 4).shape == (3, 2, 1, 1, 1)
