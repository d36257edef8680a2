"""What is registered, once."""

import pytest
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from dynq_basicsr import plugin


@pytest.mark.parametrize('registry, things', [
    (ARCH_REGISTRY, plugin.ARCHS), (MODEL_REGISTRY, plugin.MODELS), (DATASET_REGISTRY, plugin.DATASETS),
    (METRIC_REGISTRY, plugin.METRICS),
], ids=['archs', 'models', 'datasets', 'metrics'])
def test_everything_is_found_by_its_own_name_and_leaves_that_name_free(registry, things, capsys):
    plugin.register()
    plugin.register()
    assert things
    for thing in things:
        assert registry.get(thing.__name__) is thing and thing.__name__ not in registry
    assert capsys.readouterr().out == ''
