"""Messages name the key and what it may have meant."""

import pytest

from dynq_basicsr.errors import DynqError, check_choice, check_keys, nearest


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
    with pytest.raises(DynqError, match=r"'zebra'.*Known: \['patch_size', 'metrics'\]"):
        check_keys('val', {'zebra': 1}, iter(['patch_size', 'metrics']))


@pytest.mark.parametrize('given', ['text', 4, ['a', 'b']])
def test_check_keys_refuses_what_is_no_mapping(given):
    with pytest.raises(DynqError, match=r'^train\.lr: expected a mapping of options'):
        check_keys('train.lr', given, ['weight'])


@pytest.mark.parametrize('value', ['sum', None, 1, ['mean']])
def test_check_choice_names_section_value_and_choices(value):
    assert check_choice('train.form', 'mean', ['mean', 'max']) == 'mean'
    with pytest.raises(DynqError, match=r'^train\.form: must be one of mean, max, not'):
        check_choice('train.form', value, ['mean', 'max'])
