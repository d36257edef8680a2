"""How a training ends: after as many iterations as it was to have, when it is asked to, when it diverges."""

import csv
import gc
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.models.base_model import BaseModel
from basicsr.utils import misc

from dynq_basicsr.atomic import temporary_beside
from dynq_basicsr.cli import main
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.patchwise_model import PatchwiseModel
from dynq_basicsr.models.quantized_model import QuantizedModel
from tests.models.runs import assert_equal, content


def iterations(experiment):
    return sorted(int(path.stem) for path in (experiment / 'training_states').iterdir())


def curve(experiment):
    with open(experiment / 'curve.csv', newline='') as file:
        return [(row['iteration'], row['dataset']) for row in csv.DictReader(file)]


def send(monkeypatch, kind, at, times=1):
    """Let a signal arrive within an iteration."""
    plain = QuantizedModel.iterate

    def iterate(model, current_iter):
        plain(model, current_iter)
        if current_iter == at:
            for _ in range(times):
                os.kill(os.getpid(), kind)
                time.sleep(0)  # Python runs handlers between instructions

    monkeypatch.setattr(QuantizedModel, 'iterate', iterate)


@pytest.mark.parametrize('ratio, total', [(1, 7), (3, 30)])
def test_a_training_has_all_its_iterations_whatever_the_size_of_its_data_set(run, ratio, total):
    """Three images in batches of two: BasicSR would end after 5 and after 28 iterations."""
    experiment = run(total, 0, datasets={'train': {'dataset_enlarge_ratio': ratio}})
    assert iterations(experiment) == list(range(1, total + 1))


def test_so_has_one_that_goes_on_with_other_batches(run):
    experiment = run(6, 0)
    run(13, 0, '--auto_resume', datasets={'train': {'batch_size_per_gpu': 1}})  # nine an epoch in place of four
    assert iterations(experiment)[-1] == 13


@pytest.mark.parametrize('changes, words', [
    ({'gt_size': 4096}, 'smaller than the patch of gt_size 4096'),
    ({'dataroot_gt': 'dataroot_lq'}, 'at scale 2 GT must be'),
])  # fmt: skip
def test_pairs_that_do_not_fit_are_refused_before_anything_is_moved(run, photographs, changes, words):
    experiment = run(2, 0)
    if 'dataroot_gt' in changes:
        changes = {'dataroot_gt': str(photographs / 'LR')}
    with pytest.raises(DynqError, match=words):
        run(2, 0, datasets={'train': changes})
    assert not list(experiment.parent.glob('tiny_archived_*'))


def test_the_best_iteration_is_one_of_the_training_s(run, monkeypatch):
    iterations = []
    monkeypatch.setattr(BaseModel, '_update_best_metric_result', lambda *arguments: iterations.append(arguments[-1]))
    run(3, 0)
    assert iterations == [2, 3]


def test_a_data_set_that_does_not_fill_a_batch_is_refused_before_anything_is_moved(run):
    run(2, 0)
    small = {'train': {'batch_size_per_gpu': 4, 'dataset_enlarge_ratio': 1}}
    with pytest.raises(DynqError, match=r'datasets\.train: 3 images .* do not fill a batch of batch_size_per_gpu 4'):
        run(2, 0, datasets=small)
    experiment = run(2, 0, '--auto_resume')
    assert [path.name for path in experiment.parent.glob('[!.]*')] == ['tiny']


@pytest.mark.parametrize('kind', [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize('workers', [0, 1])
def test_a_signal_ends_it_after_the_iteration_and_what_is_resumed_equals_what_was_not_interrupted(
    run, monkeypatch, log_lines, kind, workers
):
    last, at = 8, 6
    expected = content(run(last, workers), last)
    before = signal.getsignal(kind)
    with monkeypatch.context() as patch:
        send(patch, kind, at)
        with pytest.raises(SystemExit) as end:
            run(last, workers, logger={'save_checkpoint_freq': 100})
    assert end.value.code == 130 and signal.getsignal(kind) is before
    del end
    sentence = f'Interrupted after iteration {at}: saved at iteration {at}, and --auto_resume goes on from there.'
    assert sentence in log_lines
    experiment = run(last, workers, '--auto_resume')
    assert iterations(experiment) == [at, 7, 8]
    assert curve(experiment) == [(str(n), 'photographs') for n in (2, 4, 6, 8)]  # the one of 6 was made up for
    assert_equal(content(experiment, last), expected)


def test_a_second_signal_ends_it_at_once_and_says_what_was_saved(run, monkeypatch, capfd):
    send(monkeypatch, signal.SIGINT, at=3, times=2)
    with pytest.raises(SystemExit) as end:
        run(8, 0, logger={'save_checkpoint_freq': 2})
    assert end.value.code == 130
    said = capfd.readouterr().err
    assert 'asked to end; this iteration is finished and saved first.' in said
    assert 'interrupted at once; saved at iteration 2, and --auto_resume goes on from there.' in said


def test_a_signal_in_a_validation_ends_it_between_two_images(run, monkeypatch, log_lines):
    plain = QuantizedModel.test

    def test(model):
        os.kill(os.getpid(), signal.SIGINT)
        plain(model)

    with monkeypatch.context() as patch:
        patch.setattr(QuantizedModel, 'test', test)
        with pytest.raises(SystemExit):
            run(4, 0, logger={'save_checkpoint_freq': 100})
    assert 'Interrupted after iteration 2: saved at iteration 2, and --auto_resume goes on from there.' in log_lines
    expected = content(run(4, 0), 4)
    assert iterations(run(2, 0)) == [1, 2]
    assert_equal(content(run(4, 0, '--auto_resume'), 4), expected)


class Killed(Exception):
    pass


def test_a_kill_between_a_state_and_its_validation_loses_no_validation(run, monkeypatch):
    def validation(*arguments):
        raise Killed

    expected = content(run(4, 0), 4)
    with monkeypatch.context() as patch:
        patch.setattr(QuantizedModel, 'validation', validation)
        with pytest.raises(Killed):
            run(4, 0)
    experiment = run(4, 0, '--auto_resume')
    assert curve(experiment) == [('2', 'photographs'), ('4', 'photographs')]
    assert_equal(content(experiment, 4), expected)
    best = content(experiment, 2)['training_states/2.state']['best_metric_results']['photographs']['psnr']
    assert best['iter'] == 2


def test_archiving_twice_within_a_second(run, monkeypatch):
    monkeypatch.setattr(misc, 'get_time_str', lambda: '20260101_000000')
    for _ in range(4):
        experiment = run(1, 0)
    names = sorted(path.name for path in experiment.parent.glob('tiny*'))
    assert names == ['tiny', 'tiny_archived_20260101_000000', 'tiny_archived_20260101_000000_2',
                     'tiny_archived_20260101_000000_3']  # fmt: skip


def test_what_killed_runs_left_is_swept(run):
    experiment = run(2, 0)
    names = ('models/net_g_9.pth', 'training_states/9.state', 'curve.csv')
    left = [temporary_beside(experiment / name) for name in names]
    left = [path.with_name(path.name.replace(str(os.getpid()), '4194304')) for path in left]
    for path in left:
        path.write_bytes(b'half')
    run(3, 0, '--auto_resume')
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize('optimizer, problem', [
    ({'type': 'Adam', 'lr': 1e6}, r'The loss l_pix was (far above its start|not finite)'),
    ({'type': 'SGD', 'lr': 1e9}, 'The loss l_pix was (far above its start|not finite)'),
    ({'type': 'Adam', 'lr': 1e30}, r'The loss l_pix was not finite in iteration 2\.'),
])  # fmt: skip
def test_a_training_that_diverges_ends_with_a_sentence_and_its_last_good_checkpoint(run, tmp_path, optimizer, problem):
    changes = {'optim_g': optimizer, 'logger': {'save_checkpoint_freq': 4}, 'val': {'val_freq': 4}}
    words = rf'{problem}.* Training stops; nothing was saved yet\. Lower the learning rates'
    with pytest.raises(DynqError, match=words):
        run(24, 0, **changes)
    assert not list((tmp_path / 'experiments' / 'tiny' / 'models').iterdir())


def test_the_command_ends_in_that_line_and_names_a_checkpoint_that_is_good(run, tmp_path, capfd):
    leap = {'type': 'MultiStepLR', 'milestones': [5], 'gamma': 1e9}
    run(1, 0, scheduler=leap)  # leaves the option file
    shutil.rmtree(tmp_path / 'experiments')
    capfd.readouterr()
    assert main(['train', '-opt', 'options.yml', '--force_yml', 'train:total_iter=40']) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith('dynq_basicsr: error:')]
    words = r'.*The loss l_pix was .* Training stops; (net_g_(\d+)\.pth), the last checkpoint, stays.*'
    named = re.fullmatch(words, *lines)
    saved = torch.load(tmp_path / 'experiments/tiny/models' / named[1], weights_only=True)['params']
    assert 4 <= int(named[2]) < 8 and all(value.isfinite().all() for value in saved.values())
    assert sorted(iterations(tmp_path / 'experiments/tiny'))[-1] == int(named[2])


def test_the_last_iteration_is_validated_once(run, monkeypatch):
    validated, plain = [], PatchwiseModel.dist_validation

    def dist_validation(model, loader, iteration, *rest):
        validated.append(iteration)
        plain(model, loader, iteration, *rest)

    monkeypatch.setattr(PatchwiseModel, 'dist_validation', dist_validation)
    run(4, 0)
    assert validated == [2, 4]
    run(4, 0, '--auto_resume')  # which has nothing left to do
    run(5, 0, '--auto_resume')
    assert validated == [2, 4, 5]


def test_what_broken_parameters_throw_becomes_that_sentence(run, monkeypatch):
    plain = QuantizedModel.iterate

    def iterate(model, current_iter):
        if current_iter == 3:
            with torch.no_grad():
                model.network.conv_last.weight.fill_(float('inf'))
            raise IndexError('index 9223372036854775807 is out of bounds')
        plain(model, current_iter)

    monkeypatch.setattr(QuantizedModel, 'iterate', iterate)
    words = r'The parameter conv_last.weight was beyond all bounds in iteration 3\. Training stops; net_g_2\.pth'
    with pytest.raises(DynqError, match=words):
        run(4, 0)


def test_a_log_that_does_not_fit_on_the_disk_prints_no_traceback_while_a_run_goes_on(run, monkeypatch):
    monkeypatch.setattr(logging, 'raiseExceptions', True)
    seen = []

    def save(model, *arguments, **named):
        seen.append(bool(logging.raiseExceptions))

    monkeypatch.setattr(QuantizedModel, 'save', save)
    run(1, 0)
    run(1, 0)
    gc.collect()
    assert seen == [False] * 4 and logging.raiseExceptions


KILLED = {  # when and which of two: the iterations whose states stay
    'setup:1': [], 'training:1': [1, 2], 'validation:1': [1, 2], 'saving:0': [1], 'the end:0': [1, 2, 3],
}  # fmt: skip


def test_a_killed_rank_ends_the_other_with_a_sentence_and_soon(run, tmp_path):
    run(1, 1)  # leaves the option file; one worker, which the launcher's signal meets, too
    options = yaml.safe_load((tmp_path / 'options.yml').read_text())
    options['train']['total_iter'] = 3
    options['logger']['print_freq'] = 1
    (tmp_path / 'options.yml').write_text(yaml.safe_dump(options))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name('killed_ranks.py')), 'options.yml', *KILLED], cwd=tmp_path,
        capture_output=True, text=True, timeout=300,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
             'PYTHONPATH': str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for moment, found in json.loads(done.stdout.splitlines()[-1]).items():
        assert found['code'] == 2 and found['seconds'] < 60, (moment, found)
        sentences = [line for line in found['log'].splitlines() if line.startswith('dynq_basicsr: error:')]
        assert len(sentences) == 1 and 'Another process of this run ended or does not answer' in sentences[0], moment
        assert 'Traceback' not in found['log'], moment
        experiment = tmp_path / 'experiments' / moment.replace(':', ' ')
        assert iterations(experiment) == KILLED[moment], moment
        assert all(content(experiment, iteration) for iteration in KILLED[moment])
