"""Keys that nobody reads are refused, wherever they stand."""

from pathlib import Path

import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.utils.registry import MODEL_REGISTRY

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.option_checks import check_options, check_types

OPTIONS = Path(__file__).parents[2] / 'options'


@pytest.mark.parametrize('changes, named', [
    ({'modell_type': 'x'}, "'modell_type'.*'model_type'"),
    ({'val': {'patch_sise': 96}}, "val: unknown option 'patch_sise'.*'patch_size'"),
    ({'path': {'pretrain_network': 'x'}}, "path: unknown option 'pretrain_network'.*'pretrain_network_g'"),
    ({'logger': {'print_frequency': 1}}, "logger: unknown option 'print_frequency'.*'print_freq'"),
    ({'network_g': {'bakbone': {}}}, "network_g: unknown option 'bakbone'.*'backbone'"),
    ({'network_g': {'type': 'QuantisedSR'}}, "network_g.type: .*'QuantisedSR'.*'QuantizedSR'"),
    ({'network_g': None}, 'network_g'),
    ({'val': [1]}, 'val'),
])  # fmt: skip
def test_unknown_keys_are_named(train_options, changes, named):
    with pytest.raises(DynqError, match=named):
        check_options(train_options(**changes))


def test_the_options_of_these_tests_are_known(train_options, test_options, float_checkpoint):
    check_options(train_options())
    check_options(test_options(float_checkpoint))


@pytest.mark.parametrize('changes, named', [
    ({'val': {'metrics': {'psnr': {'test_y_chanel': True}}}}, "val.metrics.psnr: .*'test_y_chanel'.*'test_y_channel'"),
    ({'val': {'metrics': {'psnr': {'type': 'calculate_psnrr'}}}}, "psnr.type: .*'calculate_psnrr'.*'calculate_psnr'"),
    ({'val': {'metrics': {'ssim': {'type': 'calculate_ssim'}}}}, 'ssim: calculate_ssim needs crop_border'),
    ({'val': {'metrics': {'fab': {'weigthing': 'area'}}}}, "fab: unknown option 'weigthing'.*'weighting'"),
    ({'val': {'val_freq': 0}}, 'val.val_freq: must be a whole number >= 1'),
    ({'logger': {'print_freq': 0}}, 'logger.print_freq'),
    ({'logger': {'save_checkpoint_freq': 'many'}}, 'logger.save_checkpoint_freq'),
    ({'path': {'pretrain_network_g': 'nowhere.pth'}}, "no checkpoint at 'nowhere.pth'"),
    ({'datasets': {'val': {'dataroot_lq': 'nowhere'}}}, "datasets.val.dataroot_lq: .*'nowhere'"),
    ({'datasets': {'train': {'phase': 'train', 'num_worker_per_gpu': 0}}}, 'datasets.train.batch_size_per_gpu'),
    ({'network_g': {'backbone': {'num_feet': 8}}}, "network_g.backbone: unknown option 'num_feet'.*'num_feat'"),
    ({'network_g': {'quantization': {'weight': {'bits': 9}}}}, 'quantization.weight.bits'),
])  # fmt: skip
def test_what_cannot_work_is_found_before_anything_is_built(train_options, changes, named):
    with pytest.raises(DynqError, match=named):
        check_options(train_options(**changes))


@pytest.mark.parametrize('opt, named', [
    ({'model_type': 'AdaBMModl', 'datasets': {}}, "model_type: .*'AdaBMModl'.*'AdaBMModel'"),
    ({'model_type': 'SRModel', 'datasets': {'val': {'type': 'PairedImageDatset'}}}, "datasets.val.type: .*Dataset'"),
    ({'model_type': 'SRModel', 'datasets': {'val': {}}}, 'datasets.val.type: nothing is registered as None'),
])  # fmt: skip
def test_unregistered_types_are_named(opt, named):
    with pytest.raises(DynqError, match=named):
        check_types(opt)


@pytest.mark.parametrize('path', sorted(OPTIONS.glob('*.yml')), ids=lambda path: path.stem)
def test_every_option_file_holds_known_options_only(path, monkeypatch, train_options, tmp_path):
    opt = yaml.safe_load(path.read_text())
    opt['is_train'] = 'train' in opt
    if opt['network_g'] == {'type': 'QuantizedSR'}:  # the checkpoint, which the user names, holds the rest
        opt['path']['pretrain_network_g'] = tmp_path / 'quantized.pth'
        net = build_network(train_options()['network_g'])
        torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'quantized.pth')
    check_types(opt)
    model = MODEL_REGISTRY.get(opt['model_type'])
    if hasattr(model, 'check_options'):
        monkeypatch.setattr(Path, 'exists', lambda self: True)  # data and checkpoints are the user's
        monkeypatch.setattr(Path, 'is_file', lambda self: True)
        monkeypatch.setattr('dynq_basicsr.models.option_checks.check_spandrel', lambda *options: None)
        model.check_options(opt)
    assert opt['name'] == path.stem
