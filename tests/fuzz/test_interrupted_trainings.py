"""Whatever fails at whatever step of a training: the same command goes on, and ends as if nothing had happened."""

from __future__ import annotations

import csv
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from tests.fuzz.commands import BROKEN, FAILURES, FULL, command, disturbed, sampled, steps_of, temporaries
from tests.models.runs import assert_equal, content

COUNT = 1  # steps of each training and failure; the log's are counted apart


class Training:
    """A training by an option file, which saves, validates and writes pictures and TensorBoard's figures.

    Args:
        options: Of the option file.
        root: An empty folder.
    """

    def __init__(self, options: dict, root: Path) -> None:
        self.file, self.last = root / 'options.yml', options['train']['total_iter']
        self.file.write_text(yaml.safe_dump(options))
        self.before = root / 'before'  # a whole training, which later ones find in their way
        assert self.run(self.before).code == 0
        self.expected = self.result(self.before)
        self.steps = self.steps_beside_another(root / 'undisturbed')

    def words(self, *more: str) -> list[str]:
        return ['train', '-opt', str(self.file), *more]

    def run(self, folder: Path, *more: str):
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        return command(*self.words(*more))

    def steps_beside_another(self, folder: Path) -> list[str]:
        self.begin(folder)
        steps = steps_of(*self.words())
        assert_equal(self.result(folder), self.expected)
        return steps

    def begin(self, folder: Path) -> None:
        """A folder in which the training has been run before."""
        shutil.copytree(self.before, folder)
        os.chdir(folder)

    def result(self, folder: Path) -> dict[str, object]:
        """What a training leaves behind; seconds of work apart."""
        experiment = folder / 'experiments' / 'tiny'
        found = content(experiment, self.last)
        found[f'training_states/{self.last}.state'].pop('seconds', None)
        with open(experiment / 'curve.csv', newline='') as file:
            found['curve'] = [{key: row[key] for key in row if key != 'seconds'} for row in csv.DictReader(file)]
        found['latest'] = torch.load(experiment / 'models/net_g_latest.pth', weights_only=True)
        below = experiment / 'visualization'
        found['pictures'] = {str(path.relative_to(below)): path.read_bytes() for path in below.rglob('*.png')}
        return found

    def runs_of_before(self, folder: Path) -> list[Path]:
        """Where the training of before is, in its place or moved out of the way, whole."""
        good = (self.before / 'experiments/tiny/models/net_g_latest.pth').read_bytes()
        found = (folder / 'experiments').glob('tiny*/models/net_g_latest.pth')
        return [path.parents[1] for path in found if path.read_bytes() == good]


@pytest.fixture(params=['AdaBM', 'Granular-DQ'])
def training(request, tmp_path, photographs, train_options, granular_options, monkeypatch):
    """One of each method."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a child has no others
    pairs = {'name': 'photographs', 'type': 'PairedImageDataset', 'dataroot_gt': str(photographs / 'HR'),
             'dataroot_lq': str(photographs / 'LR'), 'io_backend': {'type': 'disk'}}  # fmt: skip
    loading = {'use_hflip': True, 'use_rot': True, 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2}
    if request.param == 'AdaBM':
        whole = train_options(train={'total_iter': 6, 'calibration_iter': 1})
        train = {**loading, 'name': 'lr', 'type': 'LRCalibrationDataset', 'dataroot_lq': str(photographs / 'LR'),
                 'num_images': 3, 'patch_size': 32}  # fmt: skip
    else:
        whole = granular_options(train={'entropy_patches': 16, 'calibration_patches': 4, 'ema_decay': 0.9})
        train = {**loading, **pairs, 'name': 'pairs', 'gt_size': 32, 'dataset_enlarge_ratio': 2}
    options = {key: whole[key] for key in ('model_type', 'scale', 'num_gpu', 'network_g', 'train')} | {
        'name': 'tiny', 'manual_seed': 4, 'datasets': {'train': train, 'val': pairs},
        'path': {'pretrain_network_g': whole['path']['pretrain_network_g']},
        'val': {'val_freq': 2, 'save_img': True, 'patch_size': 48,
                'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 2}, 'fab': {'type': 'calculate_fab'}}},
        'logger': {'print_freq': 2, 'save_checkpoint_freq': 2, 'use_tb_logger': True},
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    yield Training(options, tmp_path)
    torch.set_num_threads(threads)


# Not every system has children that begin as copies, and with a GPU autograd has threads, which those lack.
POSSIBLE = FAILURES if hasattr(os, 'fork') and not torch.cuda.is_available() else (FULL, BROKEN)


def test_a_training_ends_as_if_nothing_had_failed(training, tmp_path):
    for failure, step in sampled(training.steps, COUNT, POSSIBLE):
        folder = tmp_path / f'{failure} {step}'
        training.begin(folder)
        whole = disturbed(failure, step, folder, *training.words())
        of_before = training.runs_of_before(folder)
        assert of_before
        if not whole:
            if folder / 'experiments/tiny' in of_before:  # not even begun, and resuming would find the end
                shutil.rmtree(folder / 'experiments/tiny')
            assert training.run(folder, '--auto_resume').code == 0
        assert_equal(training.result(folder), training.expected)
        assert not temporaries(folder)
        shutil.rmtree(folder)
