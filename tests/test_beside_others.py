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


@pytest.fixture(scope='module')
def runs(tmp_path_factory, odd_images, photographs):
    """Where trainings ran: of odd images without and with the plugin, then of their model and of ours beside it."""
    root = tmp_path_factory.mktemp('runs')
    odd, own, ours = options('odd', odd_images), options('own', photographs), options('ours', photographs)
    odd['val']['save_img'] = True
    odd['datasets']['val']['type'] = 'PairedImageDataset'
    ours['model_type'] = 'QuantizedModel'
    for one in ours['datasets'].values():
        one['type'] = 'PairedImageDataset'
    for one in (odd, own, ours):
        (root / f'{one["name"]}.yml').write_text(yaml.safe_dump(one))
    jobs = {'without': ['odd'], 'with': ['odd', 'own', 'ours']}
    for folder in jobs:
        (root / folder).mkdir()
    arguments = [f'{root / folder}=' + ','.join(str(root / f'{name}.yml') for name in names)
                 for folder, names in jobs.items()]  # fmt: skip
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('foreign_package.py')), *arguments], capture_output=True,
        text=True, env={**os.environ, 'PYTHONPATH': str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root


def test_a_foreign_run_computes_the_same_with_and_without_the_plugin(runs):
    found = {}
    for kind in ('without', 'with'):
        said = (runs / kind / 'stdout').read_text().splitlines()
        assert said[-1] == ('no plugin' if kind == 'without' else 'plugin')
        experiment = runs / kind / 'experiments' / 'odd'
        state = torch.load(experiment / 'models' / 'net_g_latest.pth', weights_only=True)['params']
        log = next(experiment.glob('*.log')).read_text()
        figures = re.findall(r'iter: +\d+|l_pix: \S+|psnr: \S+|Dataset \[\w+\]|Total epochs: \d+', log)
        files = {str(path.relative_to(experiment)): path.read_bytes() if path.suffix == '.png' else None
                 for path in experiment.rglob('*.*') if path.suffix != '.log'}  # fmt: skip
        found[kind] = (state, files, figures, said[:-1])
    (one, files, figures, said), (other, others, *longer) = found['without'], found['with']
    assert files == others and sum(map(bool, files.values())) > 5
    assert [figures, said] == [longer[0][:len(figures)], longer[1][:len(said)]] and len(figures) > 15
    assert 'iter:       5' in figures and 'iter:       6' not in figures  # of 8: BasicSR's own count, kept
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_package_with_names_of_ours_trains_its_network_and_our_model_trains_it_too(runs):
    said, told = [(runs / 'with' / name).read_text() for name in ('stdout', 'stderr')]
    assert 'Dataset [LRCalibrationDataset]' in told and 'Model [HATModel] is created' in told
    assert 'Dataset [CheckedPairedImageDataset]' in told and 'Model [QuantizedModel] is created' in told
    assert told.count('Network [HAT] is created') >= 2 and 'use name:' not in said
    states = {name: runs / 'with' / 'experiments' / name / 'training_states' for name in ('own', 'ours')}
    assert not (states['own'] / '8.state').exists() and (states['ours'] / '8.state').exists()
