"""Observers against exact statistics of everything they saw."""

import numpy as np
import pytest
import torch
from torch import nn

from dynq_basicsr.quantization.context import BitContext
from dynq_basicsr.quantization.layers import quantize_layer
from dynq_basicsr.quantization.observers import BINS, InputObserver, observing
from dynq_basicsr.quantization.options import QuantizationOptions


def batches(scales=(0.1, 1.0, 7.0, 0.5), shape=(2, 4, 9, 8)):
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(shape, generator=generator) for scale in scales]


def watch(inputs):
    observer = InputObserver()
    for x in inputs:
        observer.observe(x)
    return observer


def test_minimum_and_maximum_of_all_batches():
    seen = batches()
    observer = watch(seen)
    assert observer.lower == float(torch.cat(seen).min())
    assert observer.upper == float(torch.cat(seen).max())


@pytest.mark.parametrize('offset, lower, upper', [(5.0, 0.0, 6.0), (-5.0, -6.0, 0.0)])
def test_range_always_holds_zero(offset, lower, upper):
    observer = watch([offset + torch.tensor([[-1.0, 0.5, 1.0]])])
    assert (observer.lower, observer.upper) == (lower, upper)


def test_deviation_is_the_mean_over_samples_of_the_unbiased_deviation():
    seen = [*batches(), torch.randn(5, 4, 9, 8, generator=torch.Generator().manual_seed(1))]
    expected = torch.cat([x.flatten(1).std(dim=1) for x in seen]).mean()
    assert watch(seen).deviation == pytest.approx(float(expected), rel=1e-5)


def test_histogram_is_exact_however_the_limit_grew():
    """A first limit of 4 makes every edge a binary fraction, and no value lies on one but -4, which starts a bin."""
    generator = np.random.default_rng(0)
    seen = [generator.integers(-m, m, size=(2, 3, 5, 5)) / 16 + 1 / 2048 for m in (60, 200, 30, 9600)]
    seen[0][0, 0, 0, 0] = -4
    observer = watch([torch.from_numpy(x).float() for x in seen])
    everything = np.concatenate([x.ravel() for x in seen])
    expected, edges = np.histogram(everything, BINS, (-observer.limit, observer.limit))
    assert observer.limit == 1024
    assert np.array_equal(observer.counts.numpy(), expected)
    assert np.allclose(observer.centers.numpy(), (edges[:-1] + edges[1:]) / 2)


def test_histogram_of_random_batches_is_that_of_their_union():
    seen = batches()
    observer = watch(seen)
    everything = torch.cat(seen).flatten().double().numpy()
    expected, _ = np.histogram(everything, BINS, (-observer.limit, observer.limit))
    assert observer.counts.sum() == everything.size
    # a value on an edge may fall on either side of it in float32
    assert np.abs(np.cumsum(observer.counts.numpy() - expected)).max() <= 2
    assert BINS // 4 <= np.ceil(np.abs(everything).max() / observer.limit * BINS / 2) <= BINS // 2


def test_channels_last_and_contiguous_see_the_same():
    seen = batches()
    plain, last = watch(seen), watch([x.contiguous(memory_format=torch.channels_last) for x in seen])
    assert torch.equal(plain.counts, last.counts)
    assert (plain.lower, plain.upper) == (last.lower, last.upper)
    assert plain.deviation == pytest.approx(last.deviation, rel=1e-5)


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
    assert observer.counts[observer.centers > 4.9].sum() == 18


def test_large_batches_are_counted_exactly():
    """A histogram in float32 stops counting at 2^24."""
    count = 2**24 + 2**20
    assert watch([torch.zeros(1, count)]).counts.sum() == count


def test_observing_leaves_no_hook_behind():
    layer = nn.Conv2d(3, 4, 3)
    quantize_layer(layer, 'conv', 0, QuantizationOptions.from_dict({'weight': {'bits': 4}}), BitContext())
    layer.context.quantizing = False
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
    for layer in layers:
        quantize_layer(layer, 'conv', 0, QuantizationOptions.from_dict({'weight': {'bits': 4}}), BitContext())
        layer.context.quantizing = False
    observers, reached, x = [InputObserver(), InputObserver()], [], torch.ones(1, 3, 5, 5)

    def forward():
        layers[0](layers[1](layers[0](x)))
        reached.append(True)

    with observing(layers, observers) as ran:
        forward()
    assert ran == [layers[0], layers[1], layers[0]] and reached == [True]
    with observing(layers, observers, stop_after=ran) as again:
        forward()
    assert again == ran and reached == [True]
    assert [int(one.counts.sum()) for one in observers] == [4 * x.numel(), 2 * x.numel()]
    with observing(layers, observers, stop_after=ran[:1] * 2) as other:  # another order: nothing is cut short
        forward()
    assert other == ran and reached == [True, True]
    assert not any(layer._forward_pre_hooks for layer in layers)
