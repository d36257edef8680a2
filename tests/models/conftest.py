"""BasicSR's training of a tiny network, in this process."""

import sys

import pytest
import yaml
from basicsr.train import train_pipeline

from tests.model_fixtures import merge

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}


@pytest.fixture
def run(tmp_path, photographs, monkeypatch):
    """Train for some iterations, four an epoch, saving each state; returns the experiment's folder."""
    pairs = {'name': 'pairs', 'type': 'PairedImageDataset', 'dataroot_gt': str(photographs / 'HR'),
             'dataroot_lq': str(photographs / 'LR'), 'io_backend': {'type': 'disk'}}  # fmt: skip
    monkeypatch.chdir(tmp_path)

    def train(total_iter, workers, *arguments, **changes):
        options = {
            'name': 'tiny', 'model_type': 'QuantizedModel', 'scale': 2, 'num_gpu': 0, 'manual_seed': 4,
            'datasets': {
                'train': {**pairs, 'gt_size': 32, 'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': workers,
                          'batch_size_per_gpu': 2, 'dataset_enlarge_ratio': 3},
                'val': {**pairs, 'name': 'photographs'},
            },
            'network_g': EDSR, 'path': {'pretrain_network_g': None},
            'train': {
                'total_iter': total_iter, 'warmup_iter': 2, 'ema_decay': 0.9,
                'optim_g': {'type': 'Adam', 'lr': 1e-3},
                'scheduler': {'type': 'MultiStepLR', 'milestones': [5], 'gamma': 0.5},
                'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
            },
            'val': {'val_freq': 2, 'save_img': False, 'metrics': {'psnr': {'type': 'calculate_psnr',
                                                                           'crop_border': 2}}},
            'logger': {'print_freq': 100, 'save_checkpoint_freq': 1, 'use_tb_logger': False},
        }  # fmt: skip
        for key in ('logger', 'val', 'datasets'):
            merge(options[key], changes.pop(key, {}))
        options['train'].update(changes)
        (tmp_path / 'options.yml').write_text(yaml.safe_dump(options))
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', 'options.yml', *arguments])
        train_pipeline(str(tmp_path))
        return tmp_path / 'experiments' / 'tiny'

    return train
