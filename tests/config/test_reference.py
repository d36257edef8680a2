"""The reference is what the sections say, and the schema takes what the parser takes."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from dynq_basicsr.config.catalog import parts
from dynq_basicsr.config.reference import DOCS, explain, main
from dynq_basicsr.config.schema import schema
from dynq_basicsr.errors import DynqError

OPTIONS = Path(__file__).parents[2] / 'options'


@pytest.fixture(scope='module')
def validator():
    jsonschema.Draft202012Validator.check_schema(schema())
    return jsonschema.Draft202012Validator(schema())


def test_the_files_are_up_to_date(capsys):
    assert main(['--check']) == 0, 'run python -m dynq_basicsr.config.reference'
    assert json.loads((DOCS / 'options.schema.json').read_text('utf-8')) == json.loads(json.dumps(schema()))


def test_a_stale_file_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('dynq_basicsr.config.reference.DOCS', tmp_path)
    assert main(['--check']) == 1 and 'options.md' in capsys.readouterr().out
    assert main([]) == 0 and main(['--check']) == 0


def test_every_key_has_a_description_of_one_line():
    for part in parts():
        assert part.section.__doc__, part
        for entry in part.entries:
            assert entry.meaning and entry.meaning.endswith('.') and '\n' not in entry.meaning, entry
            assert entry.values != 'a mapping of options' or entry.key not in ('train.total_iter',), entry


def test_each_section_stands_there_once():
    keys = [(part.key, part.section) for part in parts()]
    assert len(keys) == len(set(keys)) and {'train.lr', 'network_g.policy', 'datasets.NAME'} <= {key for key, _ in keys}


@pytest.mark.parametrize('key, expected', [
    ('train.lr.weight', 'train.lr.weight (AdaBMModel): a number >= 0; default 0.005.'),
    ('target_bits', 'train.loss.target_bits (AdaBMModel): a number >= 0, or null; default null.'),
    ('policy.image_factors', 'network_g.policy.image_factors (AdaBM): a list of at least 2'),
    ('datasets.train.gt_size', 'datasets.NAME.gt_size (PairedImageDataset'),
    ('name', 'name: a plain name'),
])  # fmt: skip
def test_a_key_is_explained(key, expected):
    assert explain(key).splitlines()[0].startswith(expected)


def test_a_name_that_stands_in_several_places_is_explained_for_each():
    assert len(explain('bits').splitlines()) == 2 and len(explain('patch_size').splitlines()) == 3


@pytest.mark.parametrize('key, near', [
    ('target_bit', 'target_bits'), ('train.lr.wieght', 'train.lr.weight'), ('', ''), ('x' * 10**5, ''),
])  # fmt: skip
def test_a_name_that_is_none_gets_the_nearest(key, near):
    with pytest.raises(DynqError, match=f'no option has this name.*{near}') as caught:
        explain(key)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize('path', sorted(OPTIONS.glob('*.yml')), ids=lambda path: path.stem)
def test_the_schema_takes_every_option_file_of_ours(path, validator):
    options = yaml.safe_load(path.read_text('utf-8'))
    assert [error.message for error in validator.iter_errors(options)] == []


@pytest.mark.parametrize('changes', [
    {'nmae': 'x'}, {'scale': 'x'}, {'train': {'total_iter': 1, 'lr': {'wieght': 1}}}, {'val': {'patch_sise': 1}},
    {'network_g': {'type': 'QuantizedSR', 'bakbone': {}}}, {'network_g': {'type': 'QuantizedSR',
    'policy': {'type': 'AdaBM', 'x': 1}}},
    {'datasets': {'val': {'type': 'PairedImageDataset', 'name': 'x'}}}, {'network_g': {'type': 'QuantizedSR',
    'quantization': {'weight': {'bits': 9}}}},
])  # fmt: skip
def test_the_schema_refuses_what_the_parser_refuses(changes, validator):
    options = yaml.safe_load((OPTIONS / 'adabm_edsr_x4_w4a4.yml').read_text('utf-8'))
    assert not validator.is_valid(options | changes)
