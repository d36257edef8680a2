"""FAB and BitOPs, called as BasicSR calls metrics."""

import basicsr  # noqa: F401  (fills the registries)
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric

from dynq_basicsr import plugin
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.cost import NetworkCost
from dynq_basicsr.quantization.usage import BitUsage

plugin.register()

COST = NetworkCost(layer_macs={'a': 1e6, 'b': 3e6}, weight_bits={'a': 4, 'b': 4}, float_macs=2e6, elementwise=5e5)


@pytest.fixture
def measured():
    """What ``QuantizedModel`` hands to metrics for an image of two patches, 20 x 40 pixels, x2."""
    usage = BitUsage(COST, [(0, 0, 20, 10), (0, 10, 20, 40)], 20, 40)
    usage.add([0, 1], ['a', 'b'], torch.tensor([[3.0, 5.0], [4.0, 6.0]]))
    return {'img': np.zeros((40, 80, 3), np.uint8), 'img2': np.zeros((40, 80, 3), np.uint8), 'usage': usage}


def test_fab(measured):
    assert calculate_metric(measured, {'type': 'calculate_fab'}) == pytest.approx((3.5 + 5.5) / 2)
    weighted = {'type': 'calculate_fab', 'weighting': 'area', 'better': 'lower'}
    assert calculate_metric(measured, weighted) == pytest.approx(3.5 / 4 + 5.5 * 3 / 4)


def by_hand(pixels):
    """Operations times bits in tera: quantized, float."""
    a, b = 3 / 4 + 5 * 3 / 4, 4 / 4 + 6 * 3 / 4
    return pixels * 2 * 4 * (1e6 * a + 3e6 * b) / 1e12, pixels * (2 * 2e6 + 5e5) * 1024 / 1e12


@pytest.mark.parametrize('part', ['total', 'quantized', 'float'])
@pytest.mark.parametrize('resolution, pixels', [(None, 800), ([1920, 1080], 960 * 540), ((80, 40), 800)])
def test_bitops(measured, part, resolution, pixels):
    quantized, floating = by_hand(pixels)
    expected = {'total': quantized + floating, 'quantized': quantized, 'float': floating}[part]
    options = {'type': 'calculate_bitops', 'part': part, 'resolution': resolution, 'better': 'lower'}
    assert calculate_metric(measured, options) == pytest.approx(expected)


def test_overlaps_count_twice_where_no_resolution_is_stated():
    usage = BitUsage(COST, [(0, 0, 20, 30), (0, 10, 20, 40)], 20, 40)
    usage.add([0, 1], ['a', 'b'], torch.full((2, 1), 4.0))
    data = {'img': np.zeros((40, 80, 3), np.uint8), 'usage': usage}
    whole = calculate_metric(data, {'type': 'calculate_bitops', 'resolution': [80, 40]})
    assert calculate_metric(data, {'type': 'calculate_bitops'}) == pytest.approx(1.5 * whole)


def test_without_ground_truth(measured):
    del measured['img2']
    assert calculate_metric(measured, {'type': 'calculate_fab'}) == pytest.approx(4.5)
    assert calculate_metric(measured, {'type': 'calculate_bitops'}) > 0


@pytest.mark.parametrize('name', ['calculate_fab', 'calculate_bitops'])
def test_other_models_report_no_bits(name):
    with pytest.raises(DynqError, match=f'{name}: this model reports no bits; use model_type QuantizedModel'):
        calculate_metric({'img': np.zeros((4, 4, 3), np.uint8)}, {'type': name})


@pytest.mark.parametrize('options, named', [
    ({'type': 'calculate_fab', 'weighting': 'pixel'}, "weighting .* must be patch or area, not 'pixel'"),
    ({'type': 'calculate_bitops', 'part': 'all'}, "part .* must be one of total, quantized, float, not 'all'"),
    ({'type': 'calculate_bitops', 'resolution': [1920]}, r'resolution .* must be \[width, height\], not \[1920\]'),
    ({'type': 'calculate_bitops', 'resolution': [0, 1080]}, 'resolution'),
    ({'type': 'calculate_bitops', 'resolution': 1080}, 'resolution'),
    ({'type': 'calculate_bitops', 'resolution': '1080p'}, 'resolution'),
])  # fmt: skip
def test_each_bad_value_is_named(measured, options, named):
    with pytest.raises(DynqError, match=named):
        calculate_metric(measured, options)


@pytest.mark.parametrize('options, near', [
    ({'type': 'calculate_fab', 'weigthing': 'area'}, 'weighting'),
    ({'type': 'calculate_bitops', 'resolutoin': [1920, 1080]}, 'resolution'),
])  # fmt: skip
def test_a_misspelt_option_is_not_swallowed(measured, options, near):
    with pytest.raises(DynqError, match=near):
        calculate_metric(measured, options)
