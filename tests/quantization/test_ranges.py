"""Ranges stay positive and ordered, and learn relative to their size."""

import math

import pytest
import torch
from torch import nn

from dynq_basicsr.quantization.options import WeightOptions
from dynq_basicsr.quantization.ranges import SMALLEST, ActivationRange, WeightRange


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
