"""Names in BasicSR's registries, beside those of other packages."""

import pytest
from basicsr.utils.registry import ARCH_REGISTRY, Registry

from dynq_basicsr import plugin
from dynq_basicsr.archs.rdn_arch import RDN
from dynq_basicsr.compat.registries import add, find, is_ours, names, run_is_ours

plugin.register()


@pytest.fixture
def registry():
    return Registry('test')


def foreign(name='RDN'):
    return type(name, (), {'__module__': 'other.package'})


@pytest.mark.parametrize('first', ['ours', 'theirs'])
def test_a_foreign_class_of_the_same_name_wins_whichever_comes_first(registry, first):
    theirs = foreign()
    for step in (first, 'ours', 'theirs' if first == 'ours' else 'ours'):
        if step == 'ours':
            add(registry, RDN)
        else:
            registry.register(theirs)
    assert registry.get('RDN') is find(registry, 'RDN') is theirs
    assert find(registry, 'RDN_basicsr') is RDN
    assert names(registry) == ['RDN']


def test_ours_is_found_without_a_word_and_theirs_as_ever(registry, capsys):
    add(registry, RDN)
    assert registry.get('RDN') is registry.get('RDN_basicsr') is find(registry, 'RDN') is RDN
    assert capsys.readouterr().out == ''
    other = foreign('Other')
    registry.register(other, suffix='basicsr')
    assert registry.get('Other') is other
    assert capsys.readouterr().out == 'Name Other is not found, use name: Other_basicsr!\n'
    with pytest.raises(KeyError, match="No object named 'Absent'"):
        registry.get('Absent')


@pytest.mark.parametrize('name', [None, 3, ['RDN'], 'Absent', 'RDN_', '_basicsr'])
def test_what_is_not_there_is_none(registry, name):
    add(registry, RDN)
    assert find(registry, name) is None


def test_what_is_ours():
    assert is_ours(RDN) and is_ours(type('Own', (RDN,), {'__module__': 'mine'}))
    assert is_ours(find(ARCH_REGISTRY, 'HAT'))
    assert not is_ours(foreign()) and not is_ours(find(ARCH_REGISTRY, 'EDSR')) and not is_ours(None)


FOREIGN = {
    'model_type': 'SRModel', 'network_g': {'type': 'EDSR'},
    'datasets': {'train': {'type': 'PairedImageDataset'}, 'val': {'type': 'PairedImageDataset'}},
    'val': {'metrics': {'psnr': {'type': 'calculate_psnr'}}},
}  # fmt: skip


@pytest.mark.parametrize('changes', [
    {'model_type': 'AdaBMModel'}, {'network_d': {'type': 'RDN'}}, {'network_g': {'type': 'QuantizedSR_basicsr'}},
    {'datasets': {'val': {'type': 'LRCalibrationDataset'}}}, {'val': {'metrics': {'b': {'type': 'calculate_bitops'}}}},
])  # fmt: skip
def test_a_run_is_ours_by_any_of_its_types(changes):
    assert not run_is_ours(FOREIGN) and not run_is_ours({'model_type': 'Absent'})
    assert run_is_ours(FOREIGN | changes)
