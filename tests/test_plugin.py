"""What is registered, once."""

import pytest
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY

from dynq_basicsr import plugin
from dynq_basicsr.errors import DynqError


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


def test_basicsr_by_itself_reads_no_safetensors():
    plugin.register()
    opt = {'model_type': 'SRModel', 'name': 'x', 'is_train': False, 'path': {'pretrain_network_g': 'x.safetensors'}}
    with pytest.raises(DynqError, match=r'pretrain_network_g: SRModel reads \.pth files only, not .x\.safetensors'):
        plugin.check_option_file(opt)


def test_models_of_others_that_load_by_themselves_are_given_any_file(monkeypatch):
    plugin.register()

    class Reader(SRModel):
        def load_network(self, *arguments):
            """Reads safetensors, say."""

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'Reader', Reader)
    opt = {'model_type': 'Reader', 'name': 'x', 'is_train': False, 'path': {'pretrain_network_g': 'x.safetensors'}}
    plugin.check_option_file(opt)
