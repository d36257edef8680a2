"""Messages name the key and what it may have meant."""

from collections import OrderedDict
from datetime import date

import pytest

from dynq_basicsr.errors import DynqError, check_keys, check_number, nearest, shown


def test_nearest_names_close_candidates():
    assert nearest('EDRS', ['EDSR', 'RCAN', 'SwinIR']) == " Did you mean 'EDSR'?"
    both = nearest('conv', ['conv1', 'conv2', 'upsample'])
    assert "'conv1' or 'conv2'" in both or "'conv2' or 'conv1'" in both


def test_nearest_is_silent_when_nothing_is_close():
    assert nearest('EDSR', ['zebra', 'violin']) == ''
    assert nearest('EDSR', []) == ''


@pytest.mark.parametrize('name', [None, 4, ['EDSR']])
def test_nearest_takes_whatever_a_file_may_hold(name):
    assert isinstance(nearest(name, ['EDSR', 'None', '4']), str)


def test_check_keys_accepts_what_is_known():
    check_keys('val', {'patch_size': 96}, ['patch_size', 'patch_step'])
    check_keys('val', {}, ['patch_size'])
    check_keys('val', None, ['patch_size'])


def test_check_keys_names_section_key_and_nearest():
    with pytest.raises(DynqError, match=r"^val: unknown option 'patch_sise'\. Did you mean 'patch_size'"):
        check_keys('val', {'patch_sise': 96}, ['patch_size', 'metrics'])


def test_check_keys_lists_everything_known_when_nothing_is_near():
    with pytest.raises(DynqError, match=r"'zebra'.*Known: patch_size, metrics\."):
        check_keys('val', {'zebra': 1}, iter(['patch_size', 'metrics']))


@pytest.mark.parametrize('given', ['text', 4, ['a', 'b']])
def test_check_keys_refuses_what_is_no_mapping(given):
    with pytest.raises(DynqError, match=r'^train\.lr: must be a mapping of options, not '):
        check_keys('train.lr', given, ['weight'])


@pytest.mark.parametrize('value', ['5', None, True, 0, float('inf'), float('nan'), 10**400, [1]])
def test_check_number_names_the_bounds(value):
    check_number('here', 3, 1, 4, whole=True)
    with pytest.raises(DynqError, match=r'^here: must be a number from 1 to 4, not '):
        check_number('here', value, 1, 4)


def nested(depth):
    """A list that holds 9 ** depth numbers, and each list once."""
    value = [0] * 9
    for _ in range(depth):
        value = [value] * 9
    return value


@pytest.mark.parametrize('value', [
    nested(200), {'key': nested(9)}, OrderedDict(a=OrderedDict(b=nested(9))), 'x' * 10**6, 10**10000, 'two\nlines',
    set(range(10**4)), date(2020, 1, 1), b'x' * 1000,
], ids=lambda value: type(value).__name__)  # fmt: skip
def test_values_are_shown_in_a_line(value):
    text = shown(value)
    assert 0 < len(text) <= 60 and '\n' not in text


def test_short_values_are_shown_as_they_are():
    for value in ('x', 3, -0.1, None, True, ['a', 1], {'a': [1, 2]}):
        assert shown(value) == repr(value)
