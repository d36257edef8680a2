"""Observers against exact statistics of everything they saw."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from dynq_basicsr.quantization import observers
from dynq_basicsr.quantization.observers import BINS, InputObserver, Observed, observing


def batches(scales=(0.1, 1.0, 7.0, 0.5), shape=(2, 4, 9, 8)):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(shape, generator=generator) for scale in scales]


def watch(inputs):
    observer = InputObserver()
    for x in inputs:
        observer.observe(x)
    return observer


def centers(observer):
    return Observed.stack([observer], ['layer']).centers[0]


@pytest.fixture(params=['host', 'device'])
def counting(request, monkeypatch):
    """Count as on the CPU, and as on any other device."""
    if request.param == 'device':
        monkeypatch.setattr(observers, '_count_on_host', observers._count_on_device)


class NoHostReads(TorchDispatchMode):
    """Refuses what a GPU would have to be waited for."""

    waits = {'_local_scalar_dense', 'item', 'equal', 'nonzero', 'masked_select', 'bincount', 'unique', '_unique2'}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.waits, name
        result = function(*args, **kwargs or {})
        assert not name.startswith(('_to_copy', 'copy_')) or result.device == args[0].device
        return result


def test_minimum_and_maximum_of_all_batches():
    seen = batches()
    observer = watch(seen)
    assert observer.lower == float(torch.cat(seen).min())
    assert observer.upper == float(torch.cat(seen).max())


@pytest.mark.parametrize('offset, lower, upper', [(5.0, 0.0, 6.0), (-5.0, -6.0, 0.0)])
def test_range_always_holds_zero(offset, lower, upper):
    observer = watch([offset + torch.tensor([[-1.0, 0.5, 1.0]])])
    assert (observer.lower, observer.upper) == (lower, upper)


def test_nothing_is_known_before_the_first_batch():
    observer = InputObserver()
    assert observer.counts is observer.lower is observer.upper is observer.limit is observer.deviation is None


def test_deviation_is_the_mean_over_samples_of_the_unbiased_deviation():
    seen = [*batches(), torch.randn(5, 4, 9, 8, generator=torch.Generator().manual_seed(1))]
    expected = torch.cat([x.flatten(1).std(dim=1) for x in seen]).mean()
    assert watch(seen).deviation.item() == pytest.approx(float(expected), rel=1e-5)


def test_histogram_is_exact_however_the_limit_grew(counting):
    """A first limit of 4 makes every edge a binary fraction, and no value lies on one but -4, which starts a bin."""
    generator = np.random.default_rng(0)
    seen = [generator.integers(-m, m, size=(2, 3, 5, 5)) / 16 + 1 / 2048 for m in (60, 200, 30, 9600)]
    seen[0][0, 0, 0, 0] = -4
    observer = watch([torch.from_numpy(x).float() for x in seen])
    everything = np.concatenate([x.ravel() for x in seen])
    limit = observer.limit.item()
    expected, edges = np.histogram(everything, BINS, (-limit, limit))
    assert limit == 1024
    assert np.array_equal(observer.counts.numpy(), expected)
    assert np.allclose(centers(observer).numpy(), (edges[:-1] + edges[1:]) / 2)


def test_histogram_of_random_batches_is_that_of_their_union(counting):
    seen = batches()
    observer = watch(seen)
    everything = torch.cat(seen).flatten().double().numpy()
    limit = observer.limit.item()
    expected, _ = np.histogram(everything, BINS, (-limit, limit))
    assert observer.counts.sum() == everything.size
    # a value on an edge may fall on either side of it in float32
    assert np.abs(np.cumsum(observer.counts.numpy() - expected)).max() <= 2
    assert BINS // 4 <= np.ceil(np.abs(everything).max() / limit * BINS / 2) <= BINS // 2


def test_channels_last_and_contiguous_see_the_same():
    seen = batches()
    plain, last = watch(seen), watch([x.contiguous(memory_format=torch.channels_last) for x in seen])
    assert torch.equal(plain.counts, last.counts)
    assert (plain.lower, plain.upper) == (last.lower, last.upper)
    assert plain.deviation.item() == pytest.approx(last.deviation.item(), rel=1e-5)


def test_slices_and_tokens_are_counted_once():
    x = torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(2)).contiguous(
        memory_format=torch.channels_last
    )
    for view in (x[1:3], x[:, 1:4], x[..., 2:5], x.flatten(2).transpose(1, 2)):
        observer = watch([view])
        assert observer.counts.sum() == view.numel()
        assert torch.equal(observer.counts, watch([view.contiguous().clone()]).counts)


def test_a_dead_input_is_a_peak_at_zero():
    observer = watch([torch.zeros(1, 2, 3, 3)])
    assert (observer.lower, observer.upper, observer.deviation) == (0, 0, 0)
    assert observer.counts.sum() == 18 and observer.counts[BINS // 2] == 18


def test_a_dead_first_batch_does_not_spoil_the_next():
    observer = watch([torch.zeros(1, 2, 3, 3), torch.full((1, 2, 3, 3), 5.0)])
    assert observer.counts.sum() == 36 and observer.limit >= 5
    assert observer.counts[centers(observer) > 4.9].sum() == 18


def test_large_batches_are_counted_exactly(counting):
    """A histogram in float32 stops counting at 2^24."""
    count = 2**24 + 2**20
    assert watch([torch.zeros(1, count)]).counts.sum() == count


def grown_one_at_a_time(limit, largest, counts):
    """The limit and the histogram after as many doublings as it takes, bins merged two by two each time."""
    while largest > limit:
        merged, counts, limit = counts.view(-1, 2).sum(dim=1), torch.zeros_like(counts), 2 * limit
        counts[BINS // 4 : -BINS // 4] = merged
    return limit, counts


@pytest.mark.parametrize('first', [1.0, 0.75, 1.5, float(np.nextafter(np.float32(1), np.float32(0))), 1e-8, 3e-5])
@pytest.mark.parametrize('doublings', [0, 1, 2, 5, 13, 14, 70])
@pytest.mark.parametrize('side', ['below', 'at', 'above'])
def test_limits_double_until_the_largest_value_fits_and_not_once_more(first, doublings, side):
    generator = torch.Generator().manual_seed(doublings)
    before = watch([first * (2 * torch.rand(2, 500, generator=generator) - 1).clamp(-1, 1), torch.tensor([[first, 0]])])
    limit, counts = before.limit.item(), before.counts.clone()
    largest = torch.tensor(limit * 2.0**doublings, dtype=torch.float32)
    if side != 'at':
        largest = torch.nextafter(largest, torch.tensor(0.0 if side == 'below' else torch.inf))
    expected, merged = grown_one_at_a_time(limit, largest.item(), counts)
    before.observe(torch.stack([largest, torch.tensor(0.0)]).unsqueeze(0))
    # what the batch itself adds: one at its largest value, one at zero
    merged[min(int(largest.item() / expected * BINS / 2 + BINS / 2), BINS - 1)] += 1
    merged[BINS // 2] += 1
    assert before.limit.item() == expected
    # a value just below an edge may round onto it in float32
    assert (merged.cumsum(0) - before.counts.cumsum(0)).abs().max() <= (side == 'below')
    assert before.counts.sum() == merged.sum()


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_counts_on_any_device_are_those_of_the_cpu(monkeypatch, memory_format):
    seen = [x.contiguous(memory_format=memory_format) for x in batches((0.2, 1.0, 40.0, 3.0, 0.01))]
    expected = watch(seen)
    monkeypatch.setattr(observers, '_count_on_host', observers._count_on_device)
    with NoHostReads():
        found = watch(seen)
        observed = Observed.stack([found, found], ['first', 'second'])
        deviation, middles = observed.deviation, observed[:1].centers
    assert torch.equal(found.counts, expected.counts) and torch.equal(observed.counts[1], expected.counts.double())
    assert (found.lower, found.upper, found.limit) == (expected.lower, expected.upper, expected.limit)
    assert (deviation == expected.deviation).all() and torch.equal(middles[0], centers(expected))


def test_observing_needs_no_values_on_the_host():
    """Tensors on the meta device have none to read."""
    observer = watch([x.to('meta') for x in batches()])
    observed = Observed.stack([observer, observer], ['first', 'second'])
    assert observed.lower.is_meta and observed.deviation.shape == (2,) and observed.centers.shape == (2, BINS)


def test_the_order_of_batches_does_not_matter(counting):
    """As long as they begin with limits of one family, here powers of two, and no float32 is rounded over an edge."""
    scales = (4.0, 0.5, 32.0, 1.0)
    pairs = zip(scales, batches(), strict=True)
    seen = [(x * scale * 16).round().clamp(-64 * scale, 64 * scale - 1) / 64 for scale, x in pairs]
    for scale, x in zip(scales, seen, strict=True):
        x[1, 2, 3, 4] = -scale
    forward, backward = watch(seen), watch(seen[::-1])
    assert forward.limit == backward.limit == 32
    assert torch.equal(forward.counts, backward.counts)
    assert (forward.lower, forward.upper) == (backward.lower, backward.upper)
    assert forward.deviation.item() == pytest.approx(backward.deviation.item(), rel=1e-12)


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize('place', [0, 1, 3])
def test_what_is_not_finite_shows_in_the_range_and_leaves_counts_alone(counting, value, place):
    seen = batches()
    expected = watch([x for index, x in enumerate(seen) if index != place]).counts.sum()
    seen[place][1, 2, 3, 4] = value
    observer = watch(seen)
    assert observer.lower.isnan() and observer.upper.isnan() and observer.deviation.isnan()
    assert observer.counts.sum() == expected and observer.limit.isfinite()


def test_values_that_are_finite_but_whose_difference_is_not_in_float32():
    observer = watch([torch.tensor([[3e38, -3e38, 1.0]])])
    assert observer.upper.item() == pytest.approx(3e38) and observer.counts.sum() == 3


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_counted_like_float32(dtype):
    x = batches((1.0,))[0].to(dtype)
    observer, expected = watch([x]), watch([x.float()])
    assert (observer.lower, observer.upper) == (x.min().double(), x.max().double())
    if dtype != torch.float64:
        assert torch.equal(observer.counts, expected.counts)
    assert observer.counts.sum() == x.numel()


def test_stacked_observers_keep_their_statistics_and_can_be_picked():
    names = ['a', 'b', 'c', 'd']
    all_of_them = [watch([x]) for x in batches()]
    observed = Observed.stack(all_of_them, names)
    assert len(observed) == 4 and observed.names == tuple(names) and observed.counts.dtype == torch.float64
    for index, (one, picked) in enumerate(zip(all_of_them, observed, strict=True)):
        assert picked.names == (names[index],) and torch.equal(picked.counts[0], one.counts.double())
        for name in ('lower', 'upper', 'deviation', 'limit'):
            assert getattr(picked, name).tolist() == [getattr(one, name).item()]
    for index in (slice(1, 3), [2, 0], torch.tensor([3, 1]), range(2), -1, slice(0, 0)):
        picked, expected = observed[index], np.atleast_1d(np.array(names)[index])
        assert picked.names == tuple(expected) and torch.equal(picked.upper, observed.upper[index].reshape(-1))
        assert picked.counts.shape == picked.centers.shape == (len(expected), BINS)
    with pytest.raises(IndexError):
        observed[4]


def test_layers_that_saw_nothing_are_named():
    with pytest.raises(ValueError, match='saw no input: b, c'):
        Observed.stack([watch(batches()), InputObserver(), InputObserver()], ['a', 'b', 'c'])
    with pytest.raises(ValueError):
        Observed.stack([watch(batches())], ['a', 'b'])


def test_observing_leaves_no_hook_behind():
    layer = nn.Conv2d(3, 4, 3)
    observer, x = InputObserver(), torch.ones(2, 3, 5, 5)
    with observing([layer], [observer]):
        layer(x)
    assert observer.counts.sum() == x.numel()
    with pytest.raises(ValueError), observing([layer], [observer]):
        raise ValueError
    layer(x)
    assert observer.counts.sum() == x.numel() and not layer._forward_pre_hooks


def test_inputs_too_small_to_divide_by_are_no_error():
    observer = watch([torch.tensor([[1e-42, -2e-42, 0.0]]), torch.tensor([[0.5, -0.25, 0.0]])])
    assert (observer.lower, observer.upper) == (-0.25, 0.5)
    assert observer.counts.sum() == 6


def test_a_forward_ends_after_the_last_observation():
    layers = [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)]
    watchers, reached, x = [InputObserver(), InputObserver()], [], torch.ones(1, 3, 5, 5)

    def forward():
        layers[0](layers[1](layers[0](x)))
        reached.append(True)

    with observing(layers, watchers) as ran:
        forward()
    assert ran == [layers[0], layers[1], layers[0]] and reached == [True]
    with observing(layers, watchers, stop_after=ran) as again:
        forward()
    assert again == ran and reached == [True]
    assert [int(one.counts.sum()) for one in watchers] == [4 * x.numel(), 2 * x.numel()]
    with observing(layers, watchers, stop_after=ran[:1] * 2) as other:  # another order: nothing is cut short
        forward()
    assert other == ran and reached == [True, True]
    assert not any(layer._forward_pre_hooks for layer in layers)
