"""Ranges stay positive and ordered, and learn relative to their size."""

import math

import pytest
import torch
from torch import nn

from dynq_basicsr.quantization.fake_quantize import fake_quantize_activation, fake_quantize_step
from dynq_basicsr.quantization.options import ActivationOptions, QuantizationOptions, WeightOptions
from dynq_basicsr.quantization.ranges import SMALLEST, ActivationRange, RangeTable, StepTable, WeightRange


@pytest.mark.parametrize('lower, upper', [(-3.0, 5.0), (-1e-4, 2e3), (-200.0, 1e-3)])
def test_activation_range_holds_what_was_set(lower, upper):
    bounds = ActivationRange()
    bounds.set(lower, upper)
    assert bounds.lower.item() == pytest.approx(lower, rel=1e-5)
    assert bounds.upper.item() == pytest.approx(upper, rel=1e-5)


@pytest.mark.parametrize('lower, upper', [(2.0, 5.0), (-5.0, -2.0), (0.0, 0.0)])
def test_activation_range_is_widened_to_hold_zero(lower, upper):
    bounds = ActivationRange()
    bounds.set(lower, upper)
    lower_bound, upper_bound = bounds.lower.item(), bounds.upper.item()
    assert -2 * SMALLEST <= lower_bound <= 0 or lower_bound == pytest.approx(lower)
    assert 0 < upper_bound <= 2 * SMALLEST or upper_bound == pytest.approx(upper)
    assert lower_bound <= 0 < upper_bound and math.isfinite(1 / (upper_bound - lower_bound))


def test_set_takes_tensors_and_keeps_the_parameters():
    bounds = ActivationRange()
    before = list(bounds.parameters())
    bounds.set(torch.tensor(-2.0), torch.tensor(3.0, dtype=torch.float64))
    assert [id(p) for p in bounds.parameters()] == [id(p) for p in before]
    assert bounds.lower.item() == pytest.approx(-2)
    assert all(p.shape == () and p.dtype == torch.float32 and p.requires_grad for p in before)


@pytest.mark.parametrize('push', [-1.0, 1.0])
def test_no_gradient_can_flip_or_cross_the_bounds(push):
    bounds = ActivationRange()
    bounds.set(-0.3, 0.3)
    optimizer = torch.optim.SGD(bounds.parameters(), lr=1)
    for _ in range(5):
        optimizer.zero_grad()
        (push * 10 * (bounds.lower - bounds.upper)).backward()
        optimizer.step()
        assert bounds.lower <= 0 <= bounds.upper


@pytest.mark.parametrize('size', [1e-3, 1.0, 1e3])
def test_a_step_of_adam_moves_a_bound_by_its_rate_times_itself(size):
    bounds = ActivationRange()
    bounds.set(-size, 2 * size)
    optimizer = torch.optim.Adam(bounds.parameters(), lr=0.005)
    (bounds.upper - bounds.lower).backward()
    optimizer.step()
    assert bounds.upper.item() == pytest.approx(2 * size * math.exp(-0.005), rel=1e-4)
    assert bounds.lower.item() == pytest.approx(-size * math.exp(-0.005), rel=1e-4)


@pytest.mark.parametrize('weight', [nn.Conv2d(3, 5, 3).weight, nn.Linear(7, 5).weight])
def test_weight_range_per_tensor_and_per_channel(weight):
    whole = WeightRange(weight, WeightOptions(4))
    whole.set(torch.tensor(0.7))
    assert whole.upper.shape == () and whole.upper.item() == pytest.approx(0.7)
    channels = WeightRange(weight, WeightOptions(4, 'channel'))
    bound = torch.linspace(0.1, 1, 5).view(-1, *[1] * (weight.dim() - 1))
    channels.set(bound)
    assert channels.upper.shape == bound.shape
    torch.testing.assert_close(channels.upper, bound)
    channels.set(torch.tensor(0.4))
    assert torch.allclose(channels.upper, torch.tensor(0.4))


def test_weight_range_of_a_dead_channel_stays_positive():
    channels = WeightRange(torch.zeros(2, 3), WeightOptions(4, 'channel'))
    channels.set(torch.tensor([[0.0], [1.0]]))
    assert (channels.upper > 0).all() and channels.upper.isfinite().all()


def steps(candidates=(4, 5, 6, 8), quantizer='learned_step', signed=True, sizes=(0.2, 0.1, 0.05, 0.01)):
    table = StepTable(candidates, QuantizationOptions(activation=ActivationOptions(8, quantizer=quantizer)))
    table.set(torch.tensor(sizes), signed)
    return table


@pytest.mark.parametrize('quantizer, signed, limits', [
    ('learned_step', False, (0, 15)), ('learned_step', True, (-8, 7)), ('pams', False, (-7, 7)), ('pams', True, (-7, 7))
])  # fmt: skip
def test_levels_of_each_quantizer(quantizer, signed, limits):
    table = steps(quantizer=quantizer, signed=signed)
    assert tuple(float(one) for one in table.limits(4)) == limits
    x = torch.linspace(-9, 9, 2001).view(1, -1)
    found = table.quantize(x, 4.0) / 0.2
    torch.testing.assert_close(found.unique().round(), torch.arange(limits[0], limits[1] + 1.0))
    torch.testing.assert_close(found, found.round())


def test_each_sample_is_quantized_within_the_range_of_its_bits():
    table, x = RangeTable((4, 5, 8), QuantizationOptions(activation=ActivationOptions(8))), torch.randn(3, 2, 5, 5)
    lower, upper = torch.tensor([-0.5, -0.7, -1.0]), torch.tensor([1.0, 1.5, 3.0])
    table.set(lower, upper)
    together = table.quantize(x, torch.tensor([8.0, 4.0, 5.0]))
    for sample, (bits, place) in enumerate(((8, 2), (4, 0), (5, 1))):
        alone = fake_quantize_activation(x[sample : sample + 1], lower[place], upper[place], bits)
        torch.testing.assert_close(together[sample : sample + 1], alone)
    torch.testing.assert_close(table.quantize(x, 5.0)[2:], together[2:])


def test_only_ranges_in_use_learn():
    table, x = RangeTable((4, 5, 8), QuantizationOptions(activation=ActivationOptions(8))), torch.randn(2, 3, 5, 5)
    bits = torch.tensor([8.0, 4.0], requires_grad=True)
    table.quantize(x, bits).square().sum().backward()
    assert ((table.log_upper.grad != 0) == torch.tensor([True, False, True])).all()
    assert ((table.log_lower.grad != 0) == torch.tensor([True, False, True])).all()
    assert bits.grad.isfinite().all() and (bits.grad != 0).all()


def test_each_sample_is_quantized_at_the_step_of_its_bits():
    table, x = steps(), torch.randn(4, 3, 5, 5)
    together = table.quantize(x, torch.tensor([8.0, 4.0, 6.0, 5.0]))
    for index, (bits, size) in enumerate(((8, 0.01), (4, 0.2), (6, 0.05), (5, 0.1))):
        alone = fake_quantize_step(x[index : index + 1], torch.tensor(size), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        torch.testing.assert_close(together[index : index + 1], alone)


def test_a_signed_step_is_a_range_of_the_integer_grid():
    """So whatever freezes ranges to integers freezes steps, too."""
    table, x = steps(), torch.randn(2, 3, 5, 5)
    bounds = (torch.tensor(-8 * 0.2), torch.tensor(7 * 0.2))
    torch.testing.assert_close(table.quantize(x, 4.0), fake_quantize_activation(x, *bounds, 4))


def test_only_steps_in_use_learn_and_they_stay_positive():
    table, x = steps(), torch.randn(2, 3, 5, 5)
    optimizer = torch.optim.SGD(table.parameters(), lr=100)
    before = table.log_step.detach().clone()
    table.quantize(x, torch.tensor([8.0, 5.0])).square().sum().backward()
    optimizer.step()
    assert ((table.log_step != before) == torch.tensor([False, True, False, True])).all()
    assert (table.step(torch.tensor([8.0, 5.0])) > 0).all()


def test_bits_have_the_slope_of_the_candidates_around_them():
    table = steps(signed=False)
    bits = torch.tensor([4.0, 5.0, 6.0, 8.0], requires_grad=True)
    (slopes,) = torch.autograd.grad(table.step(bits).log().sum(), bits)
    logs = torch.tensor([0.2, 0.1, 0.05, 0.01]).log()
    assert slopes[0].item() == pytest.approx((logs[1] - logs[0]).item(), rel=1e-4)
    assert slopes[1].item() == pytest.approx((logs[2] - logs[0]).item() / 2, rel=1e-4)
    assert slopes[3].item() == pytest.approx((logs[3] - logs[2]).item() / 2, rel=1e-4)
    alone = steps((8,), sizes=(0.1,))
    (slope,) = torch.autograd.grad(alone.step(eight := torch.tensor([8.0], requires_grad=True)).log().sum(), eight)
    assert slope.item() == pytest.approx(-math.log(2))


def test_a_dead_layer_still_has_a_step():
    table = steps(sizes=(0.0, 0.0, 0.0, 0.0))
    assert torch.equal(table.quantize(torch.zeros(1, 4), 4.0), torch.zeros(1, 4))
