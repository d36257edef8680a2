"""Damaged option files: a sentence, or options that make sense; never a traceback, a hang or a page of text."""

from __future__ import annotations

import io
import time
from copy import deepcopy
from datetime import date
from pathlib import Path

import pytest
import yaml

from dynq_basicsr.compat.option_skeleton import check_skeleton
from dynq_basicsr.compat.safe_yaml import OptionLoader
from dynq_basicsr.config.run import RUNS, parse
from dynq_basicsr.config.section import Facts
from dynq_basicsr.errors import DynqError
from tests.fuzz.mutations import ODDITIES, altered, damaged

OPTIONS = Path(__file__).resolve().parents[2] / 'options'
FILES = {
    'adabm_plus_srresnet_x4_w4a4': True, 'granular_hat_s': True, 'train_edsr_small_x4': True, 'test_granular_x4': False,
}  # fmt: skip
# What YAML can hold besides, and words that mean something elsewhere.
VALUES = (*ODDITIES, b'x', date(2020, 1, 1), {1, 2}, 10**400, 'no', '..', 'AdaBM', {'type': 'AdaBM'}, {'type': 5})
SECONDS = 2.0  # that no case takes, on a busy machine


def read(text: str) -> dict:
    """A file as the commands read it."""
    stream = io.StringIO(text)
    stream.name = 'case.yml'
    return yaml.load(stream, OptionLoader)  # noqa: S506 - a subclass of the safe loader


def outcome(make, is_train: bool):
    """The typed options, or the sentence."""
    start = time.process_time()
    try:
        opt = make()
        check_skeleton('case.yml', opt, is_train)
        result = parse(RUNS.get(opt['model_type'], RUNS['QuantizedModel']), opt, Facts(is_train=is_train))
    except DynqError as error:
        result = str(error)
        assert '\n' not in result and len(result) < 600, result
    assert time.process_time() - start < SECONDS
    return result


@pytest.mark.parametrize('name', FILES)
def test_damaged_text(name):
    text, refused = (OPTIONS / f'{name}.yml').read_text(encoding='utf-8'), 0
    for case in damaged(text.encode(), range(400)):
        refused += isinstance(outcome(lambda case=case: read(case.decode('utf-8', 'replace')), FILES[name]), str)
    assert refused > 150


@pytest.mark.parametrize('name', FILES)
def test_altered_values(name):
    whole = read((OPTIONS / f'{name}.yml').read_text(encoding='utf-8'))
    expected, refused = outcome(lambda: deepcopy(whole), FILES[name]), 0
    assert not isinstance(expected, str), expected
    for seed in range(800):
        refused += isinstance(outcome(lambda seed=seed: altered(whole, seed, VALUES), FILES[name]), str)
    assert refused > 300


@pytest.mark.parametrize('name', FILES)
def test_untouched_values_give_the_same(name):
    whole = read((OPTIONS / f'{name}.yml').read_text(encoding='utf-8'))
    assert outcome(lambda: deepcopy(whole), FILES[name]) == outcome(lambda: deepcopy(whole), FILES[name])
