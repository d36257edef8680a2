"""Whole runs of AdaBM: saving, resuming, validating, and BasicSR's own pipelines."""

import json
import sys

import cv2
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.models import build_model
from basicsr.test import test_pipeline as run_test_pipeline
from basicsr.train import train_pipeline
from skimage import data


def snapshot(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def learning(model):
    return {name for name, one in model.network.named_parameters() if one.requires_grad}


JOINT = {'stages': ['joint'], 'lr_schedule': 'cosine', 'loss': {'bit': 2, 'target_bits': 3, 'bit_momentum': 0.9}}


@pytest.mark.parametrize('recipe', [{}, JOINT])
def test_resuming_goes_on_as_if_nothing_had_happened(train_options, train, batches, recipe):
    recipe = {'total_iter': 11, **recipe}
    options = train_options(train=recipe)
    straight = train(options, batches(11))

    def watch(iteration, model):
        if iteration == 6:
            model.save(0, 6)

    first = train(train_options(train=recipe), batches(6), watch=watch)
    state = torch.load(first.opt['path']['training_states'] + '/6.state', weights_only=True)
    assert (state['iter'], state['epoch']) == (6, 0)
    resumed = build_model(
        train_options(train=recipe, path={'pretrain_network_g': first.opt['path']['models'] + '/net_g_6.pth'})
    )
    resumed.resume_training(state)
    assert resumed.seconds == first.seconds
    mean = resumed.training.budget.mean
    assert torch.equal(mean, first.training.budget.mean) and mean.isfinite()
    train(resumed, batches(11)[6:], start=7)
    assert torch.equal(straight.training.budget.mean, resumed.training.budget.mean)
    assert not torch.equal(straight.training.budget.mean, first.training.budget.mean)
    assert learning(straight) == learning(resumed) != set()
    assert all(torch.equal(a, b) for a, b in zip(snapshot(straight).values(), snapshot(resumed).values(), strict=True))


def test_nothing_is_saved_before_calibration_is_finished(train_options, train, batches, tmp_path, log_lines):
    model = train(train_options(), batches(1))
    model.save(0, 1)
    assert list((tmp_path / 'experiment' / 'models').iterdir()) == []
    assert list((tmp_path / 'experiment' / 'training_states').iterdir()) == []
    assert any('not finished' in line for line in log_lines)


def test_validation_before_calibration_is_finished_does_not_end_the_run(train_options, train, batches, loader):
    model = train(train_options(), batches(1))
    model.validation(loader(), 1, None, False)
    train(model, batches(3)[1:], start=2)
    model.validation(loader(), 3, None, False)
    assert model.metric_results['psnr'] > 0


def test_validation_between_iterations_disturbs_nothing(train_options, train, batches, loader):
    plain = train(train_options(), batches(8))
    watched = train(train_options(), batches(8),
                    watch=lambda i, m: m.validation(loader(), i, None, False) if i in (2, 5) else None)  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(snapshot(plain).values(), snapshot(watched).values(), strict=True))
    assert not watched.network.training


def test_a_saved_network_evaluates_to_the_same_numbers(train_options, test_options, train, batches, loader):
    model = train(train_options(), batches(8))
    model.save(-1, -1)
    model.validation(loader(), 8, None, False)
    timing = json.loads(open(model.opt['path']['experiments_root'] + '/adabm_timing.json').read())
    assert list(timing) == ['calibration', 'weight', 'activation', 'mapping'] and min(timing.values()) > 0
    tester = build_model(test_options(model.opt['path']['models'] + '/net_g_latest.pth'))
    tester.validation(loader(), 'test', None, False)
    assert tester.metric_results == model.metric_results and 2 < tester.metric_results['fab'] < 6


def test_a_quantized_checkpoint_is_calibrated_anew(train_options, train, batches):
    model = train(train_options(), batches(8))
    model.save(-1, -1)
    again = train_options(path={'pretrain_network_g': model.opt['path']['models'] + '/net_g_latest.pth'})
    restarted, fresh = train(again, batches(2)), train(train_options(), batches(2))
    assert all(torch.equal(a, b) for a, b in zip(snapshot(restarted).values(), snapshot(fresh).values(), strict=True))


def run_pipeline(pipeline, options, folder, monkeypatch):
    path = folder / f'{options["name"]}.yml'
    path.write_text(yaml.safe_dump(options, sort_keys=False))
    monkeypatch.setattr(sys, 'argv', ['basicsr', '-opt', str(path)])
    monkeypatch.chdir(folder)
    pipeline(str(folder))


def test_from_photographs_to_figures_through_basicsrs_pipelines(
    train_options, test_options, photographs, tmp_path, monkeypatch, log_lines
):
    """Option files, BasicSR's own train and test, LR photographs to calibrate on, others to evaluate on."""
    calibration = tmp_path / 'calibration'
    calibration.mkdir()
    for name in ('rocket', 'immunohistochemistry', 'hubble_deep_field', 'retina'):
        image = getattr(data, name)()
        assert cv2.imwrite(str(calibration / f'{name}.png'), cv2.resize(image[..., ::-1], (96, 72)))
    common = {key: train_options()[key] for key in ('scale', 'num_gpu', 'network_g')}
    pairs = {'name': 'photographs', 'type': 'PairedImageDataset', 'dataroot_gt': str(photographs / 'HR'),
             'dataroot_lq': str(photographs / 'LR'), 'io_backend': {'type': 'disk'}}  # fmt: skip
    calibrate = {'name': 'lr', 'type': 'LRCalibrationDataset', 'dataroot_lq': str(calibration), 'num_images': 4,
                 'patch_size': 32, 'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': 0,
                 'batch_size_per_gpu': 2}  # fmt: skip
    train_file = common | {
        'name': 'e2e', 'model_type': 'AdaBMModel', 'manual_seed': 1, 'datasets': {'train': calibrate, 'val': pairs},
        'path': {'pretrain_network_g': train_options()['path']['pretrain_network_g']},
        'train': {'total_iter': 11, 'calibration_iter': 2, 'stage_iter': 3},
        'val': {**train_options()['val'], 'val_freq': 11},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 4, 'use_tb_logger': False},
    }  # fmt: skip
    run_pipeline(train_pipeline, train_file, tmp_path, monkeypatch)
    models = tmp_path / 'experiments' / 'e2e' / 'models'
    assert sorted(one.name for one in models.iterdir()) == ['net_g_4.pth', 'net_g_8.pth', 'net_g_latest.pth']
    curve = (models.parent / 'curve.csv').read_text().splitlines()
    assert len(curve) == 2 and curve[1].startswith('11,') and float(curve[1].split(',')[1]) > 0
    test_file = common | {
        'name': 'e2e_test', 'model_type': 'QuantizedModel', 'datasets': {'test_1': pairs},
        'path': {'pretrain_network_g': str(models / 'net_g_latest.pth')}, 'val': test_options('')['val'],
    }  # fmt: skip
    run_pipeline(run_test_pipeline, test_file, tmp_path, monkeypatch)
    results = tmp_path / 'results' / 'e2e_test'
    means = json.loads((results / 'metrics.json').read_text())['photographs']
    assert set(means) == {'psnr', 'fab', 'bitops'} and 2 <= means['fab'] <= 6
    assert len((results / 'per_image.csv').read_text().splitlines()) == 4
    assert sum('l_pix: ' in line and 'l_skt: ' in line and 'bits: ' in line for line in log_lines) == 9
    # once at the end of training and once in the test run
    assert sum(f'psnr: {means["psnr"]:.4f}' in line for line in log_lines) >= 2


def test_a_network_without_modules_for_its_blocks_is_matched_after_each_block(
    train_options, train, batches, tapped, tmp_path
):
    backbone = {'type': 'IDN', 'num_feat': 16, 'upscale': 2, 'luma': True}
    torch.save(build_network(backbone).state_dict(), tmp_path / 'idn.pth')
    options = train_options(
        path={'pretrain_network_g': str(tmp_path / 'idn.pth')},
        train={'stages': ['joint'], 'total_iter': 4, 'loss': {'feature': 10}},
    )
    options['network_g']['backbone'] = backbone
    model = train(options, batches(4))
    net = model.network.backbone
    assert tapped(model.network) == [net.down1, net.down2, net.down3, net.down4]
    assert 0 < model.log_dict['l_skt'] < 2 * 10  # of distances in [0, 2]
    assert model.network.calibrated and 2 <= model.log_dict['bits'] <= 8
