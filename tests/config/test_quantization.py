"""Good sections become values, each bad value a sentence that names its key."""

import pytest

from dynq_basicsr.config.quantization import ActivationOptions, QuantizationOptions, WeightOptions
from dynq_basicsr.errors import DynqError


def test_a_whole_section():
    options = QuantizationOptions.from_dict({
        'weight': {'bits': 4, 'granularity': 'channel', 'grid': 'literal'},
        'activation': {'bits': 6, 'bits_range': [3, 8]},
        'layers': ['Conv2d'],
        'exclude': 'conv_first',
    })  # fmt: skip
    assert options.weight == WeightOptions(bits=4, granularity='channel', grid='literal') and options.weight.per_channel
    assert (options.activation.bits, options.activation.grid) == (6, 'integer')
    assert tuple(options.activation.bits_range) == (3, 8)
    assert options.layers == ('Conv2d',) and options.exclude == ('conv_first',)
    assert options.enabled


def test_ends_have_8_bits_and_are_float_where_the_body_is():
    weight, activation = {'bits': 4, 'granularity': 'channel'}, {'bits': 6, 'bits_range': [3, 7], 'grid': 'literal'}
    ends = QuantizationOptions.from_dict({'weight': weight, 'activation': activation, 'scope': 'full'}).ends
    assert (ends.weight, ends.activation) == (
        WeightOptions(bits=8, granularity='channel'),
        ActivationOptions(bits=8, bits_range=(8, 8), grid='literal'),
    )
    assert QuantizationOptions.from_dict({'weight': weight}).ends.activation.bits == 32
    assert QuantizationOptions.from_dict({'activation': activation}).ends.weight.bits == 32


@pytest.mark.parametrize('section', [None, {}, {'weight': None, 'activation': None}, {'weight': {'bits': 32}}])
def test_nothing_said_means_float(section):
    options = QuantizationOptions.from_dict(section)
    assert not options.enabled and options.layers == ()


@pytest.mark.parametrize('section', [{'weight': {'bits': 8}}, {'activation': {'bits': 2}}])
def test_one_part_alone_is_enough(section):
    assert QuantizationOptions.from_dict(section).enabled


def test_the_given_mapping_is_left_alone():
    given = {'weight': {'bits': 4}, 'layers': 'x'}
    QuantizationOptions.from_dict(given)
    assert given == {'weight': {'bits': 4}, 'layers': 'x'}


@pytest.mark.parametrize('bits', [2, 3, 4, 5, 6, 7, 8, 32])
def test_bits_that_exist(bits):
    assert QuantizationOptions.from_dict({'weight': {'bits': bits}}).weight.bits == bits


@pytest.mark.parametrize('bits', [0, 1, 9, 16, 31, 33, -4, 4.5, '4', None, True, [4]])
@pytest.mark.parametrize('part', ['weight', 'activation'])
def test_bits_that_do_not_exist(part, bits):
    with pytest.raises(DynqError, match=rf'{part}\.bits: must be a whole number from 2 to 8, or 32'):
        QuantizationOptions.from_dict({part: {'bits': bits}})


@pytest.mark.parametrize('section, named', [
    ({'wieght': {'bits': 4}}, "'wieght'.*'weight'"),
    ({'weight': {'bit': 4}}, "weight: unknown option 'bit'.*'bits'"),
    ({'activation': {'bits_rang': [2, 8]}}, "activation: unknown option 'bits_rang'.*'bits_range'"),
    ({'weight': 4}, r'quantization\.weight: must be a mapping'),
    ({'activation': [4]}, r'quantization\.activation: must be a mapping'),
    ({'weight': {'granularity': 'row'}}, r"weight\.granularity: must be one of tensor, channel, not 'row'"),
    ({'weight': {'grid': 'float'}}, r"weight\.grid: must be one of integer, literal, not 'float'"),
    ({'scope': 'all'}, r"quantization\.scope: must be one of body, full, not 'all'"),
    ({'activation': {'bits': 4, 'grid': 'float'}}, r"activation\.grid: must be one of integer, literal, not 'float'"),
    ({'activation': {'bits': 4, 'bits_range': [2]}},
     r'activation\.bits_range: must be a list of 2, each a whole number from 2 to 8'),
    ({'activation': {'bits': 4, 'bits_range': 8}},
     r'activation\.bits_range: must be a list of 2, each a whole number from 2 to 8'),
    ({'activation': {'bits': 4, 'bits_range': [1, 8]}}, r'activation\.bits_range: must be a list of 2'),
    ({'activation': {'bits': 4, 'bits_range': [5, 8]}}, r'\[5, 8\] must lie in 2..8 and hold the base bits 4'),
    ({'activation': {'bits': 4, 'bits_range': [8, 2]}}, r'bits_range: \[8, 2\] must lie'),
    ({'activation': {'bits': 4, 'bits_range': [2, 32]}}, r'bits_range: \[2, 32\] must lie'),
])  # fmt: skip
def test_each_bad_value_is_named(section, named):
    with pytest.raises(DynqError, match=named):
        QuantizationOptions.from_dict(section)


@pytest.mark.parametrize('section, named', [
    (['weight'], 'quantization'),
    ('w4a4', 'quantization'),
    ({'layers': 5}, 'layers'),
    ({'exclude': 5}, 'exclude'),
])  # fmt: skip
def test_values_of_the_wrong_kind_are_named(section, named):
    with pytest.raises(DynqError, match=named):
        QuantizationOptions.from_dict(section)


def test_defaults_are_float_and_on_the_integer_grid():
    assert (WeightOptions().bits, WeightOptions().grid, WeightOptions().per_channel) == (32, 'integer', False)
    assert (ActivationOptions().bits, ActivationOptions().grid, ActivationOptions().bits_range) == (
        32,
        'integer',
        (2, 8),
    )
