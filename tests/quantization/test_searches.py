"""Searches against loops over every candidate."""

import pytest
import torch

from dynq_basicsr.quantization import searches
from dynq_basicsr.quantization.grids import GRIDS, integer_grid, literal_grid, snap, weight_grid
from dynq_basicsr.quantization.observers import InputObserver, Observed
from dynq_basicsr.quantization.searches import (
    CLIP_RATIOS,
    WEIGHT_RATIOS,
    search_clipping,
    search_step,
    search_weight_range,
)


def quantize(x, lower, upper, bits, grid='integer'):
    if grid == 'literal':
        return snap(x - lower, literal_grid(lower, upper, bits)) + lower
    return snap(x, integer_grid(lower, upper, bits))


def quantize_weight(weight, bound, bits, grid):
    return quantize(weight, -bound, bound, bits, grid) if grid == 'literal' else snap(weight, weight_grid(bound, bits))


def alone(observer):
    return Observed.stack([observer], ['layer'])


def clip(observer, bits, *options, **named):
    """One layer's bounds as numbers."""
    return tuple(end.item() for end in search_clipping(alone(observer), torch.tensor([bits]), *options, **named))


def step_of(observer, low, high, *options):
    return search_step(alone(observer), torch.tensor([low]), torch.tensor([high]), *options).item()


@pytest.fixture(params=[None, 1, 3])
def portions(request, monkeypatch):
    """Search as on the CPU (None), and as on any other device: so many layers at a time, all of their bins."""
    if request.param:
        monkeypatch.setattr(searches, '_occupied', lambda observed: searches._whole(observed, request.param))


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('bits', [2, 4, 8])
def test_weight_search_finds_the_least_error_of_all_candidates(random, grid, bits):
    weight = random(6, 5, 3, 3) * torch.linspace(0.3, 2, 6).view(-1, 1, 1, 1)
    found = search_weight_range(weight, bits, grid=grid)
    assert found.shape == ()

    def error(bound):
        return (quantize_weight(weight, bound, bits, grid) - weight).square().sum()

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
def test_clipping_search_finds_the_least_error_of_all_candidates(portions, random, observed, grid, bits, norm):
    x = random(2, 3000, seed=3) * 2 + 0.4
    observer = observed(x)
    lower, upper = clip(observer, bits, grid, norm)

    def error(low, high):
        bounds = torch.tensor(float(low)).double(), torch.tensor(float(high)).double()
        return float((quantize(x.double(), *bounds, bits, grid) - x).abs().pow(norm).sum())

    best = min(error(ratio * observer.lower, ratio * observer.upper) for ratio in CLIP_RATIOS)
    assert error(lower, upper) <= best * 1.002  # the histogram's bins are that fine
    assert lower / observer.lower.item() == pytest.approx(upper / observer.upper.item())


@pytest.mark.parametrize('norm', [0.5, 1, 2])
def test_clipping_search_equals_a_loop_over_the_histogram(random, observed, norm):
    observer = observed(random(2, 500, seed=4))
    used = observer.counts > 0
    values, counts = alone(observer).centers[0, used], observer.counts[used]
    errors = []
    for ratio in CLIP_RATIOS.double():
        low, high = (side * ratio for side in (observer.lower, observer.upper))
        errors.append(float(((quantize(values, low, high, 4) - values).abs() ** norm * counts).sum()))
    ratio = float(CLIP_RATIOS[errors.index(min(errors))])
    expected = ratio * observer.lower.item(), ratio * observer.upper.item()
    assert clip(observer, 4, norm=norm) == pytest.approx(expected)


def test_outliers_are_clipped_at_few_bits_and_kept_at_many(random, observed):
    x = random(1, 20000, seed=5)
    x[0, :3] = torch.tensor([30.0, -25.0, 28.0])
    observer = observed(x)
    tight, wide = (clip(observer, bits, norm=2)[1] for bits in (2, 8))
    assert tight < 0.25 * observer.upper and tight < wide <= observer.upper
    assert clip(observer, 8, norm=1)[1] < 0.25 * observer.upper, 'three outliers must not rule it'


def test_uniform_data_is_clipped_by_half_a_step(observed):
    """15 steps from 0 serve [0, 1] best when the last level covers half a step on both sides: 15.5 steps in all."""
    upper = clip(observed(torch.linspace(0, 1, 5000).unsqueeze(0)), 4, norm=2)[1]
    assert upper == pytest.approx(15 / 15.5, abs=0.011)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('value', [0.0, 3.0, -3.0])
def test_clipping_search_survives_constants(portions, observed, value, grid):
    lower, upper = clip(observed(torch.full((1, 10), value)), 4, grid)
    assert lower <= 0 <= upper
    assert max(-lower, upper) == pytest.approx(abs(value), rel=0.02)


@pytest.mark.parametrize('low, high', [(0, 15), (-8, 7), (-7, 7), (-128, 127)])
@pytest.mark.parametrize('norm', [1, 2])
def test_step_search_finds_the_least_error_of_all_candidates(portions, observed, random, low, high, norm):
    x = random(2, 3, 50, 50) + (4 if not low else 0.3)
    x = x.clamp(min=0) if not low else x
    observer = observed(x)
    found = step_of(observer, low, high, norm)

    def error(step):
        return (snap(x, torch.tensor([step, low, high])) - x).abs().pow(norm).sum().item()

    largest = max(observer.upper.item() / high, observer.lower.item() / low if low else 0)
    best = min(error(float(largest * ratio)) for ratio in CLIP_RATIOS)
    assert error(found) == pytest.approx(best, rel=0.02)  # the histogram's bins have a width


def test_step_search_of_zeros(portions, observed):
    assert step_of(observed(torch.zeros(2, 3)), -8, 7) == 0
    assert step_of(observed(torch.zeros(2, 3)), 0, 15) == 0


def test_step_search_of_values_that_the_grid_has_no_level_for(portions, observed):
    assert step_of(observed(torch.tensor([[-2.0, -1.0, 0.0]])), 0, 15) == 0


@pytest.fixture
def layers(random, observed):
    """Seven layers of all kinds, one of which is dead."""
    kinds = [lambda x: x, torch.relu, lambda x: 30 * x, lambda x: -x.abs(), torch.exp, lambda x: 0 * x, lambda x: x**5]
    observers = [observed(kind(random(2, 700, seed=seed))) for seed, kind in enumerate(kinds)]
    return Observed.stack(observers, [f'layer {index}' for index in range(len(observers))])


@pytest.mark.parametrize('norm', [1, 2])
@pytest.mark.parametrize('grid', GRIDS)
def test_clipping_of_many_layers_is_that_of_each_at_its_own_bits(portions, layers, grid, norm):
    bits = torch.tensor([4.0, 2.0, 8.0, 3.0, 5.5, 4.0, 6.0])
    lower, upper = search_clipping(layers, bits, grid, norm)
    assert lower.shape == upper.shape == (7,) and lower.dtype == upper.dtype == torch.float64
    for index in range(7):
        expected = search_clipping(layers[index], bits[index : index + 1], grid, norm)
        assert (lower[index], upper[index]) == expected
    assert lower[5] == upper[5] == 0


@pytest.mark.parametrize('norm', [1, 2])
def test_steps_of_many_layers_are_those_of_each_on_its_own_grid(portions, layers, norm):
    low, high = torch.tensor([-8, 0, -128, -2, 0, -8, -7]), torch.tensor([7, 3, 127, 1, 255, 7, 7])
    steps = search_step(layers, low, high, norm)
    assert steps.shape == (7,) and steps.dtype == torch.float64
    for index in range(7):
        one = slice(index, index + 1)
        assert steps[index] == search_step(layers[one], low[one], high[one], norm)
    assert steps[5] == 0


def test_no_layers_have_no_ranges(layers):
    nothing = torch.zeros(0)
    assert search_clipping(layers[:0], nothing)[0].shape == search_step(layers[:0], nothing, nothing).shape == (0,)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('per_channel', [False, True])
@pytest.mark.parametrize('at_once', [7, 80])
def test_weight_search_with_many_candidates_at_once_finds_the_same(random, monkeypatch, grid, per_channel, at_once):
    weights = [random(6, 5, 3, 3, seed=seed) for seed in range(8)]
    expected = [search_weight_range(weight, 4, per_channel, grid) for weight in weights]
    monkeypatch.setattr(searches, '_weight_candidates_at_once', lambda rows: at_once)
    for weight, bound in zip(weights, expected, strict=True):
        assert torch.equal(search_weight_range(weight, 4, per_channel, grid), bound)


@pytest.mark.parametrize('grid', GRIDS)
def test_searches_need_no_values_on_the_host(random, grid):
    """Tensors on the meta device have none to read."""
    observer = InputObserver()
    observer.observe(torch.zeros(2, 3, 4, 4, device='meta'))
    observed = Observed.stack([observer] * 20, [str(index) for index in range(20)])
    bits = torch.full((20,), 4.0, device='meta')
    assert [end.shape for end in search_clipping(observed, bits, grid)] == [(20,), (20,)]
    assert search_step(observed, -bits, bits).shape == (20,)
    weight = random(6, 5, 3, 3).to('meta')
    assert search_weight_range(weight, 4, grid=grid).shape == ()
    assert search_weight_range(weight, 4, True, grid).shape == (6, 1, 1, 1)
