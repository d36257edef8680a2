"""What depends on what is registered: types, and arguments that nobody takes."""

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.adabm_model import AdaBMModel
from dynq_basicsr.models.granular_model import GranularDQModel
from dynq_basicsr.models.option_checks import check_types
from dynq_basicsr.models.quantized_model import QuantizedModel


@pytest.mark.parametrize('changes, named', [
    ({'modell_type': 'x'}, "option file: unknown option 'modell_type'.*'model_type'"),
    ({'val': {'patch_sise': 96}}, "val: unknown option 'patch_sise'.*'patch_size'"),
    ({'path': {'pretrain_network': 'x'}}, "path: unknown option 'pretrain_network'.*'pretrain_network_g'"),
    ({'logger': {'print_frequency': 1}}, "logger: unknown option 'print_frequency'.*'print_freq'"),
    ({'network_g': {'bakbone': {}}}, "network_g: unknown option 'bakbone'.*'backbone'"),
    ({'network_g': {'type': 'QuantisedSR'}}, "network_g.type: must be QuantizedSR in a training of .*'QuantisedSR'"),
    ({'network_g': None}, 'network_g'),
    ({'val': [1]}, 'val: must be a mapping'),
    ({'val': {'metrics': {'psnr': {'test_y_chanel': True}}}}, "val.metrics.psnr: .*'test_y_chanel'.*'test_y_channel'"),
    ({'val': {'metrics': {'psnr': {'type': 'calculate_psnrr'}}}}, "psnr.type: .*'calculate_psnrr'.*'calculate_psnr'"),
    ({'val': {'metrics': {'ssim': {'type': 'calculate_ssim'}}}}, 'ssim.crop_border: missing'),
    ({'val': {'metrics': {'fab': {'weigthing': 'area'}}}}, "fab: unknown option 'weigthing'.*'weighting'"),
    ({'val': {'metrics': {'fab': {'better': 'sideways'}}}}, r"metrics\.fab\.better: must be one of higher, lower"),
    ({'val': {'metrics': {'fab': {'weighting': 'x'}}}}, "fab.weighting: must be one of patch, area, not 'x'"),
    ({'val': {'metrics': {'bitops': {'resolution': [9]}}}}, r'bitops.resolution: must be a list of 2, .* not \[9\]'),
    ({'val': {'metrics': {'niqe': {'type': 'calculate_niqe'}}}}, 'niqe: calculate_niqe needs crop_border'),
    ({'val': {'val_freq': 0}}, 'val.val_freq: must be a whole number >= 1'),
    ({'logger': {'print_freq': 0}}, 'logger.print_freq'),
    ({'logger': {'save_checkpoint_freq': 'many'}}, 'logger.save_checkpoint_freq'),
    ({'path': {'pretrain_network_g': 'nowhere.pth'}}, "no checkpoint at 'nowhere.pth'"),
    ({'network_g': {'backbone': {'num_feet': 8}}}, "network_g.backbone: unknown option 'num_feet'.*'num_feat'"),
    ({'network_g': {'backbone': {'type': 'EDRS'}}}, "network_g.backbone.type: .*'EDRS'.*'EDSR'"),
    ({'network_g': {'quantization': {'weight': {'bits': 9}}}}, 'quantization.weight.bits'),
    ({'network_g': {'quantization': {'activation': {'quantizer': 'rang'}}}}, "no quantizer 'rang'.*'range'"),
    ({'network_g': {'quantization': {'activation': {'quantizer': 'pams', 'grid': 'literal'}}}}, 'grid: .*only'),
    ({'network_g': {'policy': {'type': 'AdaBN'}}}, "network_g.policy.type: no policy 'AdaBN'.*'AdaBM'"),
])  # fmt: skip
def test_what_cannot_work_is_found_before_anything_is_built(train_options, changes, named):
    with pytest.raises(DynqError, match=named):
        AdaBMModel.check_options(train_options(**changes))


@pytest.mark.parametrize('changes, named', [
    ({'optim_g': {'type': 'Adm', 'lr': 1}}, "train.optim_g.type: 'Adm' is none of torch.optim.*'Adam'"),
    ({'optim_g': {'type': 'Adam', 'lr': 1, 'beta': 1}}, "train.optim_g: unknown option 'beta'.*'betas'"),
    ({'optim_g': {'type': 'Adam', 'lr': 1, 'betas': [2, 3]}}, 'optimizer Adam: Invalid beta'),
    ({'pixel_opt': {'type': 'L2Loss'}}, "train.pixel_opt.type: .*'L2Loss'.*'L1Loss'"),
    ({'pixel_opt': {'type': 'L1Loss', 'loss_wait': 1}}, "train.pixel_opt: .*'loss_wait'.*'loss_weight'"),
])  # fmt: skip
def test_optimizer_and_losses_are_known(granular_options, changes, named):
    with pytest.raises(DynqError, match=named):
        GranularDQModel.check_options(granular_options(changes))


def test_the_options_of_these_tests_are_known(train_options, granular_options, test_options, float_checkpoint):
    assert AdaBMModel.check_options(train_options()).train.total_iter == 8
    assert GranularDQModel.check_options(granular_options()).train.entropy_patches == 24
    assert QuantizedModel.check_options(test_options(float_checkpoint)).val.tiling.patch_size == 48


def test_names_may_carry_the_suffix_of_registration(train_options):
    options = train_options()
    options['network_g'] |= {'type': 'QuantizedSR_basicsr'}
    assert AdaBMModel.check_options(options).network_g.quantization.weight.bits == 4


@pytest.mark.parametrize('opt, named', [
    ({'model_type': 'AdaBMModl', 'datasets': {}}, "model_type: .*'AdaBMModl'.*'AdaBMModel'"),
    ({'model_type': 'SRModel', 'datasets': {'val': {'type': 'PairedImageDatset'}}}, "datasets.val.type: .*Dataset'"),
    ({'model_type': 'SRModel', 'datasets': {'val': {}}}, 'datasets.val.type: nothing is registered as None'),
])  # fmt: skip
def test_unregistered_types_are_named(opt, named):
    with pytest.raises(DynqError, match=named):
        check_types(opt)
