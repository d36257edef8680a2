"""Searches against loops over every candidate."""

import pytest
import torch

from dynq_basicsr.quantization.fake_quantize import (
    GRIDS,
    fake_quantize_activation,
    fake_quantize_step,
    fake_quantize_weight,
)
from dynq_basicsr.quantization.searches import (
    CLIP_RATIOS,
    WEIGHT_RATIOS,
    search_clipping,
    search_step,
    search_weight_range,
)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('bits', [2, 4, 8])
def test_weight_search_finds_the_least_error_of_all_candidates(random, grid, bits):
    weight = random(6, 5, 3, 3) * torch.linspace(0.3, 2, 6).view(-1, 1, 1, 1)
    found = search_weight_range(weight, bits, grid=grid)
    assert found.shape == ()

    def error(bound):
        return (fake_quantize_weight(weight, bound, bits, grid) - weight).square().sum()

    largest = weight.abs().max()
    best = min(error(ratio * largest) for ratio in WEIGHT_RATIOS)
    assert error(found) == pytest.approx(float(best), rel=1e-5)


@pytest.mark.parametrize('grid', GRIDS)
def test_weight_search_per_channel_is_per_tensor_channel_by_channel(random, grid):
    weight = random(6, 5, 3, 3, seed=1) * torch.linspace(0.3, 2, 6).view(-1, 1, 1, 1)
    found = search_weight_range(weight, 4, per_channel=True, grid=grid)
    assert found.shape == (6, 1, 1, 1)
    for channel in range(6):
        torch.testing.assert_close(found[channel].squeeze(), search_weight_range(weight[channel], 4, grid=grid))
    assert search_weight_range(random(6, 9), 4, per_channel=True).shape == (6, 1)


def test_weight_search_looks_at_magnitudes(random):
    """The published code takes the signed maximum, which fails for weights that are mostly negative."""
    weight = -random(4, 9, seed=2).abs() - 0.1
    weight[0, 0] = 0.01
    assert search_weight_range(weight, 8) > 0.5 * weight.abs().max()


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('weight', [torch.zeros(3, 4), torch.full((3, 4), 0.25), torch.tensor([[0.0], [1.0]])])
@pytest.mark.parametrize('per_channel', [False, True])
def test_weight_search_survives_dead_and_constant_weights(weight, grid, per_channel):
    bound = search_weight_range(weight, 4, per_channel, grid)
    assert bound.isfinite().all() and (bound >= 0).all()


def test_weight_search_leaves_the_weight_and_the_graph_alone(random):
    weight = torch.nn.Parameter(random(3, 4))
    before = weight.detach().clone()
    assert not search_weight_range(weight, 4).requires_grad and torch.equal(weight, before)


@pytest.mark.parametrize('norm', [1, 2])
@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('bits', [2, 4, 6])
def test_clipping_search_finds_the_least_error_of_all_candidates(random, observed, grid, bits, norm):
    x = random(2, 3000, seed=3) * 2 + 0.4
    observer = observed(x)
    lower, upper = search_clipping(observer, bits, grid, norm)

    def error(low, high):
        bounds = torch.tensor(float(low)).double(), torch.tensor(float(high)).double()
        return float((fake_quantize_activation(x.double(), *bounds, bits, grid) - x).abs().pow(norm).sum())

    best = min(error(ratio * observer.lower, ratio * observer.upper) for ratio in CLIP_RATIOS)
    assert error(lower, upper) <= best * 1.002  # the histogram's bins are that fine
    assert lower / observer.lower == pytest.approx(upper / observer.upper)


@pytest.mark.parametrize('norm', [0.5, 1, 2])
def test_clipping_search_equals_a_loop_over_the_histogram(random, observed, norm):
    observer = observed(random(2, 500, seed=4))
    used = observer.counts > 0
    values, counts = observer.centers[used], observer.counts[used]
    errors = []
    for ratio in CLIP_RATIOS.double():
        low, high = (torch.tensor(side).double() * ratio for side in (observer.lower, observer.upper))
        errors.append(float(((fake_quantize_activation(values, low, high, 4) - values).abs() ** norm * counts).sum()))
    ratio = float(CLIP_RATIOS[errors.index(min(errors))])
    assert search_clipping(observer, 4, norm=norm) == pytest.approx((ratio * observer.lower, ratio * observer.upper))


def test_outliers_are_clipped_at_few_bits_and_kept_at_many(random, observed):
    x = random(1, 20000, seed=5)
    x[0, :3] = torch.tensor([30.0, -25.0, 28.0])
    observer = observed(x)
    tight, wide = (search_clipping(observer, bits, norm=2)[1] for bits in (2, 8))
    assert tight < 0.25 * observer.upper and tight < wide <= observer.upper
    assert search_clipping(observer, 8, norm=1)[1] < 0.25 * observer.upper, 'three outliers must not rule it'


def test_uniform_data_is_clipped_by_half_a_step(observed):
    """15 steps from 0 serve [0, 1] best when the last level covers half a step on both sides: 15.5 steps in all."""
    upper = search_clipping(observed(torch.linspace(0, 1, 5000).unsqueeze(0)), 4, norm=2)[1]
    assert upper == pytest.approx(15 / 15.5, abs=0.011)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('value', [0.0, 3.0, -3.0])
def test_clipping_search_survives_constants(observed, value, grid):
    lower, upper = search_clipping(observed(torch.full((1, 10), value)), 4, grid)
    assert lower <= 0 <= upper
    assert max(-lower, upper) == pytest.approx(abs(value), rel=0.02)


@pytest.mark.parametrize('low, high', [(0, 15), (-8, 7), (-7, 7), (-128, 127)])
@pytest.mark.parametrize('norm', [1, 2])
def test_step_search_finds_the_least_error_of_all_candidates(observed, random, low, high, norm):
    x = random(2, 3, 50, 50) + (4 if not low else 0.3)
    x = x.clamp(min=0) if not low else x
    observer = observed(x)
    found = search_step(observer, low, high, norm)

    def error(step):
        return (fake_quantize_step(x, torch.tensor(step), low, high) - x).abs().pow(norm).sum().item()

    largest = max(observer.upper / high, observer.lower / low if low else 0)
    best = min(error(float(largest * ratio)) for ratio in CLIP_RATIOS)
    assert error(found) == pytest.approx(best, rel=0.02)  # the histogram's bins have a width


def test_step_search_of_zeros(observed):
    assert search_step(observed(torch.zeros(2, 3)), -8, 7) == 0
