"""Runs that are none of ours, with and without the plugin, and other packages beside it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

HAT = {'type': 'HAT', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}


def options(name, folder, **changes):
    pairs = {'name': 'pairs', 'type': 'LRCalibrationDataset', 'dataroot_gt': str(folder / 'HR'),
             'dataroot_lq': str(folder / 'LR'), 'io_backend': {'type': 'disk'}}  # fmt: skip
    return {
        'name': name, 'model_type': 'HATModel', 'scale': 2, 'num_gpu': 0, 'manual_seed': 4,
        'datasets': {
            'train': {**pairs, 'gt_size': 32, 'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': 0,
                      'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 1},
            'val': {**pairs, 'name': 'val'},
        },
        'network_g': HAT, 'path': {'pretrain_network_g': None},
        'train': {
            'total_iter': 8, 'optim_g': {'type': 'Adam', 'lr': 1e-3},
            'scheduler': {'type': 'MultiStepLR', 'milestones': [5], 'gamma': 0.5},
            'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
        },
        'val': {'val_freq': 2, 'save_img': False, 'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 2}}},
        'logger': {'print_freq': 1, 'save_checkpoint_freq': 2, 'use_tb_logger': False},
        **changes,
    }  # fmt: skip


def run(root, *arguments):
    root.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, str(Path(__file__).with_name('foreign_package.py')), *map(str, arguments)], cwd=root,
        capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])},
    )  # fmt: skip


@pytest.fixture(scope='module')
def odd_images(tmp_path_factory, photographs):
    """Pairs with alpha, with 16 bits, and of 8 bits: BasicSR converts the first two."""
    root = tmp_path_factory.mktemp('odd')
    for kind in ('HR', 'LR'):
        (root / kind).mkdir()
        for number, path in enumerate(sorted((photographs / kind).iterdir())):
            image = cv2.imread(str(path))
            odd = (np.dstack([image, image[..., :1]]), image.astype(np.uint16) * 257 + 100, image)[number]
            assert cv2.imwrite(str(root / kind / path.name), odd)
    return root


def test_a_foreign_run_computes_the_same_with_and_without_the_plugin(tmp_path, odd_images):
    file = tmp_path / 'options.yml'
    file.write_text(yaml.safe_dump(options('odd', odd_images)))
    found = {}
    for kind in ('without', 'with'):
        done = run(tmp_path / kind, *(['without'] if kind == 'without' else []), file)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == ('no plugin' if kind == 'without' else 'plugin')
        experiment = tmp_path / kind / 'experiments' / 'odd'
        state = torch.load(experiment / 'models' / 'net_g_latest.pth', weights_only=True)['params']
        log = next(experiment.glob('*.log')).read_text()
        figures = re.findall(r'iter: +\d+|l_pix: \S+|psnr: \S+|Dataset \[\w+\]|Total epochs: \d+', log)
        found[kind] = (state, figures, sorted(path.name for path in experiment.rglob('*.*') if path.suffix != '.log'))
    (one, figures, files), (other, *rest) = found['without'], found['with']
    assert [figures, files] == rest and len(figures) > 15
    assert 'iter:       5' in figures and 'iter:       6' not in figures  # of 8: BasicSR's own count, kept
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_package_with_names_of_ours_trains_its_network_and_our_model_trains_it_too(tmp_path, photographs):
    own, ours = tmp_path / 'own.yml', tmp_path / 'ours.yml'
    own.write_text(yaml.safe_dump(options('own', photographs)))
    changes = options('ours', photographs, model_type='QuantizedModel')
    changes['network_g'] = HAT
    for one in changes['datasets'].values():
        one['type'] = 'PairedImageDataset'
    ours.write_text(yaml.safe_dump(changes))
    done = run(tmp_path / 'run', own, ours)
    assert done.returncode == 0, done.stderr
    assert 'Dataset [LRCalibrationDataset]' in done.stderr and 'Model [HATModel] is created' in done.stderr
    assert 'Dataset [CheckedPairedImageDataset]' in done.stderr and 'Model [QuantizedModel] is created' in done.stderr
    assert done.stderr.count('Network [HAT] is created') >= 2 and 'use name:' not in done.stdout
    states = {name: tmp_path / 'run' / 'experiments' / name / 'training_states' for name in ('own', 'ours')}
    assert not (states['own'] / '8.state').exists() and (states['ours'] / '8.state').exists()
