"""Granular-DQ through BasicSR's own training, on LMDB data: interrupted and resumed, and in two processes."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.train import train_pipeline
from basicsr.utils.lmdb_util import make_lmdb_from_imgs

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 2}


@pytest.fixture(scope='module')
def lmdb(photographs, tmp_path_factory):
    """Folder of HR.lmdb and LR.lmdb, made of the photographs as BasicSR makes them."""
    root = tmp_path_factory.mktemp('lmdb')
    for kind in ('HR', 'LR'):
        names = sorted(path.name for path in (photographs / kind).iterdir())
        keys = [name.removesuffix('.png') for name in names]
        make_lmdb_from_imgs(str(photographs / kind), str(root / f'{kind}.lmdb'), names, keys)
    return root


@pytest.fixture
def option_file(tmp_path, photographs, lmdb, float_checkpoint):
    """Write an option file of ``GranularDQModel`` into ``tmp_path``: six iterations an epoch."""

    def write(total_iter, seed=4, backbone=EDSR, ours=False):
        train = {'name': 'lmdb', 'type': 'PairedImageDataset', 'dataroot_gt': str(lmdb / 'HR.lmdb'),
                 'dataroot_lq': str(lmdb / 'LR.lmdb'), 'io_backend': {'type': 'lmdb'}, 'gt_size': 48,
                 'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': 1, 'batch_size_per_gpu': 2,
                 'dataset_enlarge_ratio': 4}  # fmt: skip
        val = {'name': 'photographs', 'type': 'PairedImageDataset', 'dataroot_gt': str(photographs / 'HR'),
               'dataroot_lq': str(photographs / 'LR'), 'io_backend': {'type': 'disk'}}  # fmt: skip
        options = {
            'name': 'tiny', 'model_type': 'GranularDQModel', 'scale': 2, 'num_gpu': 0, 'manual_seed': seed,
            'datasets': {'train': train, 'val': val},
            'network_g': {
                'type': 'QuantizedSR', 'backbone': backbone,
                'policy': {'type': 'GranularDQ', 'threshold_momentum': 0.9},
                'quantization': {'weight': {'bits': 8}, 'activation': {'bits': 8, 'quantizer': 'learned_step'},
                                 'rounding_gradient': 'tanh'},
            },
            'path': {'pretrain_network_g': str(float_checkpoint) if backbone is EDSR else None},
            'train': {
                'total_iter': total_iter, 'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'ema_decay': 0.9,
                'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [8], 'eta_min': 1e-6},
                'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
                'adapt_iter': 4, 'entropy_patches': 24, 'calibration_patches': 8,
            },
            'val': {'val_freq': 4, 'save_img': False, 'patch_size': 48, 'metrics': {
                'psnr': {'type': 'calculate_psnr', 'crop_border': 2}, 'fab': {'type': 'calculate_fab'}}},
            'logger': {'print_freq': 100, 'save_checkpoint_freq': 1, 'use_tb_logger': False},
        }  # fmt: skip
        if ours:
            options['network_g']['quantization']['activation']['quantizer'] = 'learned_range'
            options['train']['teacher'] = str(float_checkpoint)
        (tmp_path / 'options.yml').write_text(yaml.safe_dump(options))
        return tmp_path / 'options.yml'

    return write


def assert_same(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


@pytest.fixture(params=['paper', 'ours', 'community'])
def recipe(request):
    if request.param == 'community':
        return {'backbone': {'type': 'Spandrel', 'path': str(request.getfixturevalue('community_checkpoint'))}}
    return {'ours': request.param == 'ours'}


def test_a_run_on_lmdb_that_is_resumed_ends_as_one_that_was_not_interrupted(
    option_file, recipe, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def train(*arguments):
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(option_file(8, **recipe)), *arguments])
        train_pipeline(str(tmp_path))
        return torch.load(tmp_path / 'experiments/tiny/models/net_g_8.pth', weights_only=True)

    expected = train()
    assert expected['params']['policy.quantiles'].tolist() != pytest.approx([0.5, 0.9], abs=1e-3)  # ATC moved them
    for interrupted_at in (2, 7):  # while thresholds adapt; in the next epoch
        for path in (tmp_path / 'experiments/tiny/training_states').iterdir():
            if int(path.stem) > interrupted_at:
                path.unlink()
        resumed = train('--auto_resume')
        assert_same(resumed['params'], expected['params'])
        assert_same(resumed['params_ema'], expected['params_ema'])


def test_two_processes_train_one_network(option_file, tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
         str(Path(__file__).with_name('granular_ranks.py')), '-opt', str(option_file(8, seed=None)),
         '--launcher', 'pytorch'],
        cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
             'PYTHONPATH': str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (torch.load(tmp_path / f'rank_{rank}.pth', weights_only=True) for rank in (0, 1))
    assert_same(first, second)  # weights, ranges, steps, thresholds
    saved = torch.load(tmp_path / 'experiments/tiny/models/net_g_latest.pth', weights_only=True)['params']
    assert_same(saved, first)
    assert first['policy.quantiles'].tolist() != pytest.approx([0.5, 0.9], abs=1e-3)
    with open(tmp_path / 'experiments/tiny/curve.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert [row['iteration'] for row in rows] == ['4', '8'] and all(4 <= float(row['fab']) <= 8 for row in rows)
