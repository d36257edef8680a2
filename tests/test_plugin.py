"""What is registered, once."""

import pytest
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY, Registry

from dynq_basicsr import plugin
from dynq_basicsr.errors import DynqError


@pytest.mark.parametrize('registry, things', [
    (ARCH_REGISTRY, plugin.ARCHS), (MODEL_REGISTRY, plugin.MODELS), (DATASET_REGISTRY, plugin.DATASETS),
    (METRIC_REGISTRY, plugin.METRICS),
], ids=['archs', 'models', 'datasets', 'metrics'])
def test_everything_is_registered_under_its_own_name(registry, things):
    plugin.register()
    plugin.register()
    assert things
    for thing in things:
        assert registry.get(thing.__name__) is thing


def test_a_second_owner_of_a_name_is_named():
    registry = Registry('test')

    class Thing:
        pass

    first, Thing.__module__ = Thing, 'one.package'
    registry.register(first)
    second = type('Thing', (), {'__module__': 'another.package'})
    with pytest.raises(DynqError, match='one.package and by another.package'):
        plugin._add(registry, second)
    assert registry.get('Thing') is first
