"""What is refused, and what is held, before BasicSR moves or writes anything."""

import json
import logging
import shutil
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import cv2
import pytest
import yaml
from basicsr.test import test_pipeline as run_test_pipeline
from basicsr.utils import get_root_logger
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr.utils.logger import initialized_logger

from dynq_basicsr.data.checks import CheckedPairedImageDataset
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.preparation import Run

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 2}


@pytest.fixture
def evaluate(tmp_path, photographs, float_checkpoint, monkeypatch):
    """Test the float network by BasicSR's tester; returns the folder of results."""
    monkeypatch.chdir(tmp_path)

    def run(*sets, save_img=True, checkpoint=str(float_checkpoint), arguments=(), **val):
        options = {
            'name': 'tiny', 'model_type': 'QuantizedModel', 'scale': 2, 'num_gpu': 0, 'manual_seed': 0,
            'datasets': {
                f'test_{number}': {
                    'name': 'photographs', 'type': 'PairedImageDataset', 'dataroot_gt': str(photographs / 'HR'),
                    'dataroot_lq': str(photographs / 'LR'), 'io_backend': {'type': 'disk'}, **one,
                }
                for number, one in enumerate(sets or [{}])
            },
            'network_g': EDSR, 'path': {'pretrain_network_g': checkpoint},
            'val': {'save_img': save_img, 'suffix': None, 'patch_size': 48, **val},
        }  # fmt: skip
        for one in options['datasets'].values():
            if one['type'] == 'SingleImageDataset':
                del one['dataroot_gt']
        (tmp_path / 'options.yml').write_text(yaml.safe_dump(options))
        monkeypatch.setattr(sys, 'argv', ['test.py', '-opt', 'options.yml', *arguments])
        run_test_pipeline(str(tmp_path))
        return tmp_path / 'results' / 'tiny'

    return run


def run_is_refused(evaluate, tmp_path, words, *sets, **val):
    with pytest.raises(DynqError, match=words):
        evaluate(*sets, **val)
    assert not (tmp_path / 'results').exists()


def test_ground_truth_of_another_size_is_refused(evaluate, tmp_path, photographs):
    small = str(photographs / 'LR')
    run_is_refused(evaluate, tmp_path, 'at scale 2 GT must be', {'dataroot_gt': small}, metrics=PSNR)


def test_so_is_that_of_an_lmdb(evaluate, tmp_path, photographs):
    names = sorted(path.name for path in (photographs / 'LR').iterdir())
    for kind in ('LR', 'HR'):
        keys = [Path(name).stem for name in names]
        make_lmdb_from_imgs(str(photographs / kind), str(tmp_path / f'{kind}.lmdb'), names, keys)
    roots = {'dataroot_lq': str(tmp_path / 'LR.lmdb'), 'dataroot_gt': str(tmp_path / 'HR.lmdb')}
    lmdb = {'io_backend': {'type': 'lmdb'}}
    wrong = lmdb | {'dataroot_lq': roots['dataroot_gt'], 'dataroot_gt': roots['dataroot_lq']}
    run_is_refused(evaluate, tmp_path, r'key .* of .*LR\.lmdb: GT is .* at scale 2 GT must be', wrong)
    assert (evaluate(lmdb | roots, metrics=PSNR) / 'metrics.json').exists()


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'SingleImageDataset'])
def test_a_border_that_leaves_nothing_is_refused(evaluate, tmp_path, kind):
    metrics = {'niqe': {'type': 'calculate_niqe', 'crop_border': 5000}}
    words = r'val\.metrics\.niqe\.crop_border: 5000 leaves too little of the result of .*\.png'
    run_is_refused(evaluate, tmp_path, words, {'type': kind}, metrics=metrics)


def test_a_border_that_leaves_no_window_of_ssim_is_refused(evaluate, tmp_path, photographs):
    side = min(2 * min(cv2.imread(str(path)).shape[:2]) for path in (photographs / 'LR').iterdir())
    metrics = {'ssim': {'type': 'calculate_ssim', 'crop_border': side // 2 - 5}}
    run_is_refused(evaluate, tmp_path, r'ssim\.crop_border: \d+ leaves too little', metrics=metrics)


def test_a_scale_that_is_not_the_network_s_is_refused(evaluate, tmp_path, monkeypatch):
    monkeypatch.setitem(EDSR, 'upscale', 4)
    words = r'^scale: 2, but results of network_g are 4 times as large'
    run_is_refused(evaluate, tmp_path, words, checkpoint=None)


def test_a_test_without_a_data_set_is_refused(evaluate, tmp_path):
    arguments = ['--force_yml', 'datasets:test_0=~']
    run_is_refused(evaluate, tmp_path, '^datasets: there is no data set to test', arguments=arguments)


PSNR = {'psnr': {'type': 'calculate_psnr', 'crop_border': 2}}


def test_two_data_sets_of_one_name_are_refused(evaluate, tmp_path):
    words = r"datasets\.test_1\.name: 'Photographs' is the name of datasets\.test_0, too"
    with pytest.raises(DynqError, match=words):
        evaluate({}, {'name': 'Photographs'})
    assert not (tmp_path / 'results').exists()


def test_two_images_of_one_name_are_refused(evaluate, tmp_path, photographs):
    folder = tmp_path / 'pictures'
    shutil.copytree(photographs / 'LR', folder)
    shutil.copy(folder / 'coffee.png', folder / 'coffee.bmp')
    single = {'type': 'SingleImageDataset', 'dataroot_lq': str(folder)}
    with pytest.raises(DynqError, match=r'pictures/coffee\.bmp and .*pictures/coffee\.png would have the same name'):
        evaluate(single)
    (folder / 'coffee.bmp').unlink()
    assert len(list(evaluate(single).rglob('*.png'))) == 3


def test_a_picture_of_bits_does_not_overwrite_a_result(evaluate, tmp_path, photographs):
    folder = tmp_path / 'pictures'
    shutil.copytree(photographs / 'LR', folder)
    shutil.copy(folder / 'coffee.png', folder / 'coffee_bits.png')
    single = {'type': 'SingleImageDataset', 'dataroot_lq': str(folder)}
    with pytest.raises(DynqError, match=r'photographs/coffee_bits_bits\.png; rename one of them'):
        evaluate(single, bit_maps=True, suffix='bits')


def test_a_metric_without_ground_truth_is_refused(evaluate, tmp_path):
    single = {'type': 'SingleImageDataset'}
    words = r'val\.metrics\.psnr: calculate_psnr compares with ground truth, which datasets\.test_1 of type'
    with pytest.raises(DynqError, match=words):
        evaluate({}, {'name': 'more', **single}, metrics=PSNR)
    assert not (tmp_path / 'results').exists()
    metrics = {'bitops': {'type': 'calculate_bitops'}}
    assert json.loads((evaluate(single, metrics=metrics) / 'metrics.json').read_text())['photographs']['bitops'] > 0


def test_a_damaged_set_is_refused_before_the_results_of_before_are_moved(evaluate, tmp_path, photographs):
    shutil.copytree(photographs, tmp_path / 'pairs')
    (tmp_path / 'pairs' / 'LR' / 'coffee.png').unlink()
    results = evaluate(metrics=PSNR)
    with pytest.raises(DynqError, match="'coffee.png' is not in"):
        evaluate({'dataroot_lq': str(tmp_path / 'pairs' / 'LR'), 'dataroot_gt': str(tmp_path / 'pairs' / 'HR')})
    assert [path.name for path in results.parent.glob('[!.]*')] == ['tiny']


def test_the_log_of_the_run_gets_all_lines(evaluate, monkeypatch):
    """BasicSR sets up its logger once, and what checks a data set may have something to say before."""
    monkeypatch.setattr(logging.getLogger('basicsr'), 'handlers', [])
    monkeypatch.setitem(initialized_logger, 'basicsr', True)
    monkeypatch.delitem(initialized_logger, 'basicsr')
    plain = CheckedPairedImageDataset.__init__

    def talkative(self, opt):
        get_root_logger().warning('A data set is built.')
        plain(self, opt)

    monkeypatch.setattr(CheckedPairedImageDataset, '__init__', talkative)
    log = next(evaluate().glob('*.log')).read_text()
    assert log.count('A data set is built.') == 1 and 'Testing photographs' in log


HOLD = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print('held', flush=True)
sys.stdin.read()
"""


def test_another_process_with_the_name_is_refused_until_the_first_is_gone(evaluate):
    results = evaluate()
    pictures = sorted(results.rglob('*.png'))
    hold = [sys.executable, '-c', HOLD, str(results.with_name('.tiny.lock'))]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == 'held\n'
        with pytest.raises(DynqError, match=r"^name: another run of the name 'tiny' is at work in .*results/tiny;"):
            evaluate()
        assert sorted(results.rglob('*.png')) == pictures
        other.kill()
    evaluate()
    assert len(list(results.parent.glob('tiny_archived_*'))) == 1


def test_a_run_lets_go_when_its_options_go(tmp_path):
    run = Run(tmp_path / 'new' / 'tiny')
    assert (tmp_path / 'new' / '.tiny.lock').exists() and deepcopy({'held': run})['held'] is None
    lock = run._lock
    assert lock.is_locked
    del run
    assert not lock.is_locked


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(DynqError, match=r'file/tiny: cannot be used'):
        Run(tmp_path / 'file' / 'tiny')
