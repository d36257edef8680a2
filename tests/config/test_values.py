"""Kinds of values: names that are safe as paths, whole numbers, bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynq_basicsr.config.quantization import WeightOptions
from dynq_basicsr.config.training import TrainOptions
from dynq_basicsr.config.values import is_installed, is_plain_name


@pytest.mark.parametrize('name', [
    'set5', 'a', 'DIV2K 100', 'x.y', '.hidden', '名前', 'é', 'a-b_c+d=e,f;g@h', 'console', 'com10', 'x' * 100,
    "it's", '~',
])  # fmt: skip
def test_names_of_one_folder(name):
    assert is_plain_name(name)


@pytest.mark.parametrize('name', [
    '', '.', '..', '../victim', '/abs', 'a/b', 'a\\b', 'C:x', 'a:b', 'a*', 'a?', 'a"', '<a', 'a>', 'a|b',
    'a\n', 'a\x00b',
    'a\x7f', ' a', 'a ', 'a.', 'CON', 'nul', 'Aux.txt', 'com1', 'LPT9.log', 'con .x', 'COM¹', 'x' * 101,
    '名' * 67, '\ud800',
    'a\u2028b',
])  # fmt: skip
def test_names_that_would_go_elsewhere(name):
    assert not is_plain_name(name)


@given(st.text(max_size=120))
def test_a_plain_name_stays_where_it_is_put(tmp_path_factory, name):
    if is_plain_name(name):
        folder = tmp_path_factory.getbasetemp()
        made = folder / name
        made.mkdir(exist_ok=True)
        assert made.resolve().parent == folder.resolve() and name in {path.name for path in folder.iterdir()}
        made.rmdir()


def section(**changes):
    return {
        'total_iter': 10, 'optim_g': {'type': 'Adam', 'lr': 1}, 'scheduler': {'type': 'MultiStepLR', 'milestones': []},
        'pixel_opt': {'type': 'L1Loss'}, **changes,
    }  # fmt: skip


@pytest.mark.parametrize('value', [5000, 5e3, 5000.0])
def test_whole_numbers_may_be_written_as_floats(value):
    read = TrainOptions.from_dict(section(total_iter=value)).total_iter
    assert read == 5000 and type(read) is int


def test_bits_likewise():
    assert type(WeightOptions.from_dict({'bits': 4.0}).bits) is int


def test_packages_are_found_without_importing_them():
    assert is_installed('yaml') and not is_installed('no_such_package_anywhere')
