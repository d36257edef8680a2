"""Sections say what is wrong in one sentence: the first thing, and how many more there are."""

from pathlib import Path

import pytest
import yaml

from dynq_basicsr.config.adabm import AdaBMOptions
from dynq_basicsr.config.quantization import QuantizationOptions, WeightOptions
from dynq_basicsr.errors import DynqError

OPTIONS = Path(__file__).parents[2] / 'options'


def read(stem):
    return yaml.safe_load((OPTIONS / f'{stem}.yml').read_text('utf-8'))


@pytest.mark.parametrize('given, sentence', [
    ({'total_iter': 1}, "train.total_iter: 1 iterations are fewer than the 50 of calibration_iter."),
    ({'total_iter': 'x'}, "train.total_iter: must be a whole number from 1 to 1000000000, not 'x'."),
    ({}, 'train.total_iter: missing; give a whole number from 1 to 1000000000.'),
    ([1], 'train: must be a mapping of options, not [1].'),
    ({'total_iter': 0, 'lr': {'weight': 'x'}, 'stages': []},
     'train.total_iter: must be a whole number from 1 to 1000000000, not 0. (2 more to mend.)'),
    ({'total_iter': 100, 'lr': {'wieght': 1}}, "train.lr: unknown option 'wieght'. Did you mean 'weight'?"),
    ({'lr': {'wieght': 1}}, "train.lr: unknown option 'wieght'. Did you mean 'weight'? (1 more to mend.)"),
    ({'total_iter': 100, 'precision': 'half'}, "train.precision: must be one of auto, float32, bfloat16, not 'half'."),
    ({'total_iter': 100, 'bit_aware_clipping': 'no'}, "train.bit_aware_clipping: must be true or false, not 'no'."),
    ({'total_iter': 100, 'compile': 'no'}, "train.compile: must be auto, true or false, not 'no'."),
])  # fmt: skip
def test_sentences(given, sentence):
    with pytest.raises(DynqError) as caught:
        AdaBMOptions.from_dict(given)
    assert str(caught.value) == sentence


def test_a_long_value_is_cut():
    with pytest.raises(DynqError) as caught:
        AdaBMOptions.from_dict({'total_iter': ['x' * 1000] * 1000})
    assert len(str(caught.value)) < 150


def test_sections_are_frozen_and_taken_as_they_are():
    options = WeightOptions(bits=4)
    assert WeightOptions.from_dict(options) is options
    with pytest.raises(ValueError, match='frozen'):
        options.bits = 5
    assert QuantizationOptions.from_dict({'weight': options}).weight is options
