"""A range a bit-width: each sample gets that of its bits, and only those in use learn."""

import pytest
import torch

from dynq_basicsr.errors import DynqError
from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.quantization.grids import integer_grid
from dynq_basicsr.quantization.quantizers.range_table import RangeTable

LOWER, UPPER = torch.tensor([-0.5, -0.7, -1.0]), torch.tensor([1.0, 1.5, 3.0])


@pytest.fixture
def table():
    made = RangeTable((4, 5, 8))
    made.set(LOWER, UPPER)
    return made


def quantize(table, x, *bits):
    return table.quantize(x, table.grid(torch.tensor(bits)))


def test_each_sample_is_quantized_within_the_range_of_its_bits(table, random):
    x = random(3, 2, 5, 5)
    together = quantize(table, x, 8.0, 4.0, 5.0)
    for sample, (bits, place) in enumerate(((8, 2), (4, 0), (5, 1))):
        alone = fake_quantize(x[sample : sample + 1], integer_grid(LOWER[place, None], UPPER[place, None], bits))
        torch.testing.assert_close(together[sample : sample + 1], alone)
    torch.testing.assert_close(quantize(table, x, 5.0)[2:], together[2:])


def test_only_ranges_in_use_learn(table, random):
    bits = torch.tensor([8.0, 4.0], requires_grad=True)
    table.quantize(random(2, 3, 5, 5), table.grid(bits)).square().sum().backward()
    assert ((table.log_upper.grad != 0) == torch.tensor([True, False, True])).all()
    assert ((table.log_lower.grad != 0) == torch.tensor([True, False, True])).all()
    assert bits.grad.isfinite().all() and (bits.grad != 0).all()


def test_the_gradient_to_the_bits_takes_the_range_as_it_is(table):
    bits = torch.tensor([4.0, 8.0], requires_grad=True)
    (found,) = torch.autograd.grad(table.grid(bits)[0].sum(), bits)
    as_it_is = (UPPER - LOWER)[[0, 2]] / (2**bits - 1)
    torch.testing.assert_close(found, torch.autograd.grad(as_it_is.sum(), bits)[0])


def test_a_fresh_table_has_a_bound_a_candidate():
    made = RangeTable((4, 5, 8))
    assert made.log_lower.shape == made.log_upper.shape == (3,)
    assert set(made.state_dict()) == {'log_lower', 'log_upper'}, 'candidates are options, not learned'


def test_it_has_the_integer_grid_only():
    with pytest.raises(DynqError, match=r'activation\.grid: RangeTable has the grid integer only'):
        RangeTable((4, 5, 8), grid='literal')
