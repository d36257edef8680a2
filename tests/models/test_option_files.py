"""Every option file that ships, checked as a run checks it."""

from pathlib import Path

import pytest
import yaml
from basicsr.utils.registry import MODEL_REGISTRY

from dynq_basicsr.compat.option_skeleton import check_skeleton
from dynq_basicsr.compat.registries import find
from dynq_basicsr.compat.safe_yaml import OptionLoader
from dynq_basicsr.config.run import parse
from dynq_basicsr.config.section import Facts
from dynq_basicsr.models.option_checks import check_registered, check_types
from dynq_basicsr.models.quantized_model import QuantizedModel

OPTIONS = Path(__file__).parents[2] / 'options'


@pytest.mark.parametrize('path', sorted(OPTIONS.glob('*.yml')), ids=lambda path: path.stem)
def test_it_is_right(path, monkeypatch, train_options):
    opt = yaml.load(path.read_text('utf-8'), OptionLoader)
    is_train = 'train' in opt
    check_skeleton(path.name, opt, is_train)
    check_types(opt)
    model = find(MODEL_REGISTRY, opt['model_type'])
    if issubclass(model, QuantizedModel):
        if opt['network_g'] == {'type': 'QuantizedSR'}:  # the checkpoint, which the user names, holds the rest
            opt['network_g'] = train_options()['network_g']
        monkeypatch.setattr('dynq_basicsr.models.option_checks.check_spandrel', lambda *options: None)
        options = parse(model.options_type, opt, Facts(is_train))
        check_registered(opt, options)
        assert options.name == path.stem


@pytest.mark.parametrize('name, other', [
    ('granular_df2k_hat_s', 'granular_hat_s'), ('adabm_div2k_srresnet_x4_w4a4', 'adabm_srresnet_x4_w4a4'),
    ('test_basicsr_folders_x4', 'test_quantized_x4'),
])  # fmt: skip
def test_those_in_basicsrs_folders_do_as_their_twins(name, other):
    one, twin = [yaml.load((OPTIONS / f'{stem}.yml').read_text('utf-8'), OptionLoader) for stem in (name, other)]
    ours = ('datasets/benchmarks', 'datasets/calibration', 'datasets/BSDS500')
    for datasets, ends in ((one.pop('datasets'), False), (twin.pop('datasets'), True)):
        roots = [root for options in datasets.values() for key, root in options.items() if key.startswith('dataroot_')]
        assert roots and all(root.startswith(ours) == ends for root in roots)
    assert one.pop('name') == name and twin.pop('name') == other and one == twin
