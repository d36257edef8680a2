"""Options of the built-in policies: defaults are those of the papers, each bad value is named."""

import pytest

from dynq_basicsr.config.policies import AdaBMPolicyOptions, GranularDQPolicyOptions
from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.errors import DynqError


@pytest.mark.parametrize('options, named', [
    ({'image_factors': [0]}, 'image_factors'),
    ({'image_factors': []}, 'image_factors'),
    ({'image_factors': [1, 0, -1]}, 'image_factors'),
    ({'image_factors': [0, 0, 1]}, 'image_factors'),
    ({'image_percentile': 50}, 'image_percentile'),
    ({'image_percentile': -1}, 'image_percentile'),
    ({'layer_percentile': 70}, 'layer_percentile'),
    ({'layer_percentile': float('nan')}, 'layer_percentile'),
    ({'image_factors': 3}, 'image_factors'),
    ({'image_factors': ['low', 'high']}, 'image_factors'),
    ({'image_percentile': 'ten'}, 'image_percentile'),
    ({'layer_percentile': None}, 'layer_percentile'),
])  # fmt: skip
def test_options_of_adabm_that_cannot_be(options, named):
    with pytest.raises(DynqError, match=rf'network_g\.policy\.{named}'):
        AdaBMPolicyOptions.from_dict(options)


@pytest.mark.parametrize('options, named', [
    ({'granularity_bits': [8, 4]}, r'granularity_bits: give ascending bits from 2 to 8, not \[8, 4\]'),
    ({'granularity_bits': []}, 'granularity_bits'),
    ({'granularity_bits': [4, 16]},
     r'granularity_bits: must be a list of at least 1, each a whole number from 2 to 8, not \[4, 16\]'),
    ({'entropy_bits': [4, 4, 8]}, 'entropy_bits'),
    ({'entropy_quantiles': [0.5]}, r'entropy_quantiles: give 2, one fewer than entropy_bits'),
    ({'entropy_quantiles': [0.9, 0.5]}, r'ascending and at least 0\.01 apart, not \[0\.9, 0\.5\]'),
    ({'entropy_quantiles': [0.5, 1.5]},
     r'entropy_quantiles: must be a list, each a number from 0 to 1, not \[0\.5, 1\.5\]'),
    ({'granularities': 0}, r'granularities: must be a whole number from 1 to 8'),
    ({'threshold_momentum': 2}, r'threshold_momentum'),
    ({'temperature': 0}, r'temperature'),
    ({'adaptive_thresholds': 1}, r'adaptive_thresholds: must be true or false, not 1'),
])  # fmt: skip
def test_options_of_granular_dq_that_cannot_be(options, named):
    with pytest.raises(DynqError, match=named):
        GranularDQPolicyOptions.from_dict(options)


@pytest.mark.parametrize('options, expected', [
    ({}, (4, 5, 6, 8)), ({'entropy_bits': None}, (4, 6, 8)), ({'granularity_bits': [5, 7]}, (4, 5, 8)),
])  # fmt: skip
def test_candidates(options, expected):
    assert GranularDQPolicyOptions.from_dict(options).candidates == expected


def test_conflicts_with_activations_are_sentences():
    options = GranularDQPolicyOptions()
    assert options.conflict(ActivationOptions(bits=8)) == ''
    assert 'are not all within' in options.conflict(ActivationOptions(bits=6, bits_range=(2, 6)))
    assert 'activations are float' in options.conflict(ActivationOptions())
