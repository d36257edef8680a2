"""Range rules against statistics and plain loops over the data itself."""

import numpy as np
import pytest
import torch

from dynq_basicsr.config.quantization import WeightOptions
from dynq_basicsr.quantization.observers import BINS, Observed
from dynq_basicsr.quantization.range_rules import (
    DENSITY_BINS,
    RangeRules,
    density_range,
    percentile_range,
    weight_percentile,
)
from dynq_basicsr.quantization.searches import search_weight_range


def alone(observer):
    return Observed.stack([observer], ['layer'])


def of_one(rule, observer, *numbers):
    """A rule's bounds of one layer, as numbers."""
    lower, upper = rule(alone(observer), *numbers)
    assert lower.shape == upper.shape == (1,) and lower.dtype == upper.dtype == torch.float64
    return lower.item(), upper.item()


@pytest.mark.parametrize('percent', [0, 0.5, 1, 10])
def test_weight_percentile_cuts_that_many_at_each_end(random, percent):
    weight = random(6, 5, 3, 3) * torch.linspace(0.3, 2, 6).view(-1, 1, 1, 1)
    found = weight_percentile(weight, percent)
    assert found.shape == ()
    assert found.item() == pytest.approx(np.percentile(weight.abs().numpy(), 100 - 2 * percent), rel=1e-5)
    channels = weight_percentile(weight, percent, per_channel=True)
    assert channels.shape == (6, 1, 1, 1)
    for channel, bound in zip(weight, channels.flatten(), strict=True):
        torch.testing.assert_close(bound, weight_percentile(channel, percent))


def test_weight_percentile_is_the_published_one_for_symmetric_weights_and_survives_others(random):
    half = random(40, 50, seed=1).abs()
    symmetric = torch.cat([half, -half])
    assert weight_percentile(symmetric, 1).item() == pytest.approx(symmetric.quantile(0.99).item(), rel=1e-2)
    negative = -half
    assert negative.quantile(0.99) < 0 < half.median() < weight_percentile(negative, 1)


def test_no_percent_gives_the_largest_magnitude_exactly(random):
    weight = -random(7, 3, 3, 3, seed=2)
    assert weight_percentile(weight, 0) == weight.abs().max()
    assert torch.equal(weight_percentile(weight, 0, True).flatten(), weight.abs().flatten(1).amax(1))
    assert weight_percentile(random(6, 9), 0, True).shape == (6, 1)


@pytest.mark.parametrize('percent', [0.1, 1, 5, 30])
def test_activation_percentiles_are_those_of_all_batches(random, observed, percent):
    seen = [scale * random(2, 5000, seed=seed) + 0.2 for seed, scale in enumerate((1.0, 3.0, 0.5))]
    observer = observed(*seen)
    everything = torch.cat([x.flatten() for x in seen])
    lower, upper = of_one(percentile_range, observer, percent)
    for cut in (everything < lower, everything > upper):
        assert cut.double().mean().item() == pytest.approx(percent / 100, rel=0.01, abs=2 / len(everything))
    # far from the thin ends, the values themselves agree to a bin of the histogram
    if percent >= 1:
        expected = np.percentile(everything.numpy(), [percent, 100 - percent])
        assert (lower, upper) == pytest.approx(expected, abs=2 * 2 * observer.limit.item() / BINS)


def test_no_percent_gives_minimum_and_maximum(random, observed):
    observer = observed(random(2, 500, seed=3))
    assert of_one(percentile_range, observer, 0) == (observer.lower, observer.upper)


def by_dropping_bins(counts, mass):
    """PTQ4SR's loop, literally: first and last bin that remain."""
    counts, dropped = list(counts), 0
    total, first = sum(counts), 0
    while True:
        end = 0 if counts[0] <= counts[-1] else -1
        if dropped + counts[end] > mass * total:
            return first, first + len(counts) - 1
        dropped += counts.pop(end)
        first += end == 0


@pytest.mark.parametrize('mass', [0, 1e-5, 1e-4, 1e-3, 0.05, 0.5])
@pytest.mark.parametrize('shape', ['normal', 'skewed', 'bimodal'])
def test_density_equals_the_plain_loop(random, observed, shape, mass):
    """Data in [-1, 1], ends included, so that four bins of the observer make one of the rule exactly."""
    x = random(1, 40000, seed=4)
    x = {'normal': x / 5, 'skewed': x.exp() / 40 - 0.3, 'bimodal': x / 20 + torch.where(x > 0.3, 0.6, -0.4)}[shape]
    x = torch.cat([x.clamp(-1, 1), torch.tensor([[-1.0, 1.0]])], dim=1)
    observer = observed(x)
    assert (observer.limit, observer.lower, observer.upper) == (1, -1, 1)
    edges = np.linspace(-1, 1, DENSITY_BINS + 1)
    counts = observer.counts.view(DENSITY_BINS, -1).sum(dim=1).tolist()
    first, last = by_dropping_bins(counts, mass)
    assert of_one(density_range, observer, mass) == pytest.approx((edges[first], edges[last + 1]), abs=1e-12)
    assert mass in (0, 1e-5) or last - first < DENSITY_BINS - 1


@pytest.mark.parametrize('scale, shift', [(1.3, 0.4), (0.02, -0.01), (7.0, -5.0)])
def test_density_of_data_that_lies_anywhere(random, observed, scale, shift):
    """The observer's bins straddle the rule's, so ties between thin bins break otherwise: by 1 percent of the range."""
    seen = [scale * random(2, 50000, seed=seed).mul(1 + seed) + shift for seed in range(3)]
    everything = torch.cat([x.flatten() for x in seen]).double().numpy()
    counts, edges = np.histogram(everything, DENSITY_BINS, (everything.min(), everything.max()))
    first, last = by_dropping_bins(counts, 1e-3)
    lower, upper = of_one(density_range, observed(*seen), 1e-3)
    width = edges[1] - edges[0]
    assert (lower, upper) == pytest.approx((edges[first], edges[last + 1]), abs=0.01 * (edges[-1] - edges[0]))
    assert ((everything < lower - width) | (everything > upper + width)).mean() <= 1e-3


def test_density_cuts_the_thin_end_and_keeps_the_dense_one(random, observed):
    x = torch.relu(random(1, 100000, seed=5))
    x[0, :5] = 80.0
    observer = observed(x)
    lower, upper = of_one(density_range, observer, 1e-4)
    assert lower == 0 and 3 < upper < 6
    assert of_one(density_range, observer, 1e-5)[1] == 80


@pytest.mark.parametrize('value', [0.0, 3.0, -3.0])
@pytest.mark.parametrize('rule', ['minmax', 'percentile', 'density'])
def test_constants_give_ranges_that_hold_them(observed, rule, value):
    observer = observed(torch.full((1, 10), value))
    lower, upper = of_one(RangeRules(activation_range=rule).activation_bounds, observer)
    assert observer.lower <= lower <= upper <= observer.upper
    # percentiles are interpolated within the one bin that is not empty
    assert min(abs(lower - value), abs(upper - value)) <= 2 * observer.limit / BINS


def test_rules_are_chosen_by_name(random, observed):
    weight, observer = random(4, 3, 3, 3, seed=6), observed(random(2, 9000, seed=7))
    options = WeightOptions(bits=4, granularity='channel')

    def bound(rule):
        return RangeRules(weight_range=rule, percentile=5).weight_bound(weight, options)

    assert torch.equal(bound('omse'), search_weight_range(weight, 4, per_channel=True))
    assert torch.equal(bound('minmax'), weight.abs().amax(dim=(1, 2, 3), keepdim=True))
    assert torch.equal(bound('percentile'), weight_percentile(weight, 5, per_channel=True))

    def bounds(rule):
        rules = RangeRules(activation_range=rule, percentile=5, density_mass=0.01)
        return of_one(rules.activation_bounds, observer)

    assert bounds('minmax') == (observer.lower, observer.upper)
    assert bounds('percentile') == of_one(percentile_range, observer, 5)
    assert bounds('density') == of_one(density_range, observer, 0.01)


@pytest.mark.parametrize('rule', ['minmax', 'percentile', 'density'])
def test_bounds_of_many_layers_are_those_of_each(random, observed, rule):
    inputs = [
        random(2, 900, seed=8),
        random(2, 900, seed=9).relu() * 5,
        -random(2, 900, seed=10).abs(),
        torch.zeros(1, 9),
    ]
    observers, rules = [observed(one) for one in inputs], RangeRules(activation_range=rule)
    lower, upper = rules.activation_bounds(Observed.stack(observers, list('abcd')))
    for index, one in enumerate(observers):
        assert (lower[index].item(), upper[index].item()) == of_one(rules.activation_bounds, one)
    assert [len(end) for end in rules.activation_bounds(Observed.stack(observers, list('abcd'))[:0])] == [0, 0]
