"""BasicSR's training with QuantizedModel: an interrupted run ends as one that was not interrupted, bit for bit."""

import csv
import json
import sys

import pytest
import torch
import yaml
from basicsr.train import train_pipeline

from dynq_basicsr.compat import interrupted_epoch
from dynq_basicsr.errors import DynqError

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
        options['train'].update(changes)
        (tmp_path / 'options.yml').write_text(yaml.safe_dump(options))
        monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', 'options.yml', *arguments])
        train_pipeline(str(tmp_path))
        return tmp_path / 'experiments' / 'tiny'

    return train


def content(experiment, iteration):
    found = {
        name: torch.load(experiment / name, weights_only=True)
        for name in (f'models/net_g_{iteration}.pth', f'training_states/{iteration}.state')
    }
    found[f'training_states/{iteration}.state'].pop('worked')  # seconds
    return found


def assert_equal(one, other, where=''):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}/{key}')
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f'{where}/{number}')
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where


def test_a_training_leaves_the_curve_of_its_validations_also_when_interrupted(run):
    def curve():
        with open(experiment / 'curve.csv', newline='') as file:
            return list(csv.DictReader(file))

    experiment = run(6, 0)
    assert [(row['iteration'], row['dataset']) for row in curve()] == [(n, 'photographs') for n in '246']
    first = curve()
    run(8, 0, '--auto_resume')
    assert [row['iteration'] for row in curve()] == ['2', '4', '6', '8'] and curve()[:2] == first[:2]
    seconds = [float(row['seconds']) for row in curve()]
    assert 0 < seconds[0] and seconds == sorted(seconds)
    best = content(experiment, 8)['training_states/8.state']['best_metric_results']['photographs']['psnr']
    assert max(float(row['psnr']) for row in curve()) == pytest.approx(best['val'])


@pytest.mark.parametrize('workers', [0, 1])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(run, workers):
    last = 10
    experiment = run(last, workers)
    expected = content(experiment, last)
    assert set(expected[f'models/net_g_{last}.pth']) == {'params', 'params_ema'}
    state = expected[f'training_states/{last}.state']
    assert state['epoch'] == 2 and state['loop'][0]['delivered'] == 2
    assert state['best_metric_results']['photographs']['psnr']['iter'] == 10  # found after the state was saved first
    # within the first epoch; at an epoch's very end; then from a state that a resumed run saved, an epoch later
    for interrupted_at in (3, 4, 6):
        for path in (experiment / 'training_states').iterdir():
            if int(path.stem) > interrupted_at:
                path.unlink()
        run(last, workers, '--auto_resume')
        assert_equal(content(experiment, last), expected)
    assert [path.name for path in experiment.parent.iterdir()] == ['tiny']


def test_a_loss_that_is_not_finite_ends_the_run_with_a_sentence(run, tmp_path):
    with pytest.raises(DynqError, match=r'The loss l_pix was not finite in iteration 1;.*train\.optim_g\.lr'):
        run(4, 0, pixel_opt={'type': 'L1Loss', 'loss_weight': float('nan')})
    for folder in ('models', 'training_states'):
        assert not list((tmp_path / 'experiments' / 'tiny' / folder).iterdir())


def test_plain_values_only(tmp_path):
    """What a state holds of the loop is read back by torch.load(weights_only=True) and has its effect."""
    states = interrupted_epoch.random_states()
    torch.save(states, tmp_path / 'x')
    drawn = torch.rand(2)
    interrupted_epoch.restore(torch.load(tmp_path / 'x', weights_only=True))
    assert torch.equal(torch.rand(2), drawn)
    json.dumps({key: value for key, value in states.items() if not isinstance(value, torch.Tensor)})


def test_another_number_of_processes_starts_the_epoch_again():
    with pytest.warns(UserWarning, match='saved by 2 processes and is resumed by 1'):
        interrupted_epoch.go_on_from([{}, {}])
    assert interrupted_epoch._Loop.resumed is None
