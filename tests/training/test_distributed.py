"""Two processes evaluate as one does."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from basicsr.test import test_pipeline as run_test_pipeline
from torch import nn

from dynq_basicsr.errors import DynqError
from dynq_basicsr.training.distributed import broadcast_module, gather, gather_shares, together

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 2}


@pytest.fixture(scope='module')
def folder(tmp_path_factory, photographs, float_checkpoint):
    """One option file, run by one process in ``one`` and by two in ``two``: sets of three images and of one."""
    root = tmp_path_factory.mktemp('two')
    for name in ('one', 'two', 'single/HR', 'single/LR', 'damaged'):
        (root / name).mkdir(parents=True)
    for kind in ('HR', 'LR'):
        shutil.copy(photographs / kind / 'coffee.png', root / 'single' / kind)
        shutil.copytree(photographs / kind, root / 'damaged' / kind)
    (root / 'damaged' / 'LR' / 'chelsea.png').write_bytes(b'no image')  # the second of three, so that of rank 1
    common = {'type': 'PairedImageDataset', 'io_backend': {'type': 'disk'}}
    sets = {'photographs': photographs, 'single': root / 'single'}
    options = {
        'name': 'tiny', 'model_type': 'QuantizedModel', 'scale': 2, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            f'test_{number}': {'name': name, **common, 'dataroot_gt': str(path / 'HR'), 'dataroot_lq': str(path / 'LR')}
            for number, (name, path) in enumerate(sets.items())
        },
        'network_g': EDSR, 'path': {'pretrain_network_g': str(float_checkpoint)},
        'val': {'save_img': True, 'suffix': None, 'patch_size': 48, 'metrics': {
            'psnr': {'type': 'calculate_psnr', 'crop_border': 2, 'test_y_channel': True},
            'fab': {'type': 'calculate_fab'}, 'bitops': {'type': 'calculate_bitops'}}},
    }  # fmt: skip
    (root / 'options.yml').write_text(yaml.safe_dump(options))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['test.py', '-opt', str(root / 'options.yml')])
        run_test_pipeline(str(root / 'one'))
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2',
         str(Path(__file__).with_name('two_processes.py')), str(root / 'options.yml'), str(root / 'damaged'),
         str(root)],
        cwd=root / 'two', capture_output=True, text=True, timeout=600,
        env={**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': '',
             'PYTHONPATH': str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return root


def rows(folder):
    with open(folder / 'results' / 'tiny' / 'per_image.csv', newline='') as file:
        return [{key: value for key, value in row.items() if key != 'seconds'} for row in csv.DictReader(file)]


def test_metrics_equal_those_of_one_process(folder):
    one, two = ((folder / name / 'results' / 'tiny' / 'metrics.json').read_text() for name in ('one', 'two'))
    assert one == two and set(json.loads(one)) == {'photographs', 'single'}
    assert rows(folder / 'one') == rows(folder / 'two') and len(rows(folder / 'two')) == 4


def test_each_picture_is_saved_by_the_rank_that_made_it(folder):
    one, two = (folder / name / 'results' / 'tiny' / 'visualization' for name in ('one', 'two'))
    pictures = sorted(path.relative_to(one) for path in one.rglob('*.png'))
    assert len(pictures) == 4 and pictures == sorted(path.relative_to(two) for path in two.rglob('*.png'))
    assert all((one / path).read_bytes() == (two / path).read_bytes() for path in pictures)
    assert [path.name for path in (folder / 'two' / 'results').glob('[!.]*')] == ['tiny']


def test_what_fails_on_one_rank_ends_all_with_its_sentence(folder):
    first, second = (json.loads((folder / f'rank_{rank}.json').read_text()) for rank in (0, 1))
    assert 'chelsea.png' in first['error'] and first['error'] == second['error']


def test_rank_0_gives_parameters_and_buffers_to_all(folder):
    for rank in (0, 1):
        seen = json.loads((folder / f'rank_{rank}.json').read_text())
        assert seen['broadcast'] == [3, True] and seen['gathered'] == [0, 1]


def test_figures_are_means_and_what_breaks_on_one_rank_stops_all(folder):
    for rank in (0, 1):
        found, error = json.loads((folder / f'rank_{rank}.json').read_text())['figures']
        assert found == {'l_pix': 1.5, 'bits': 5.0}
        assert error.startswith('The loss l_pix was not finite in iteration 2.')


# -- without processes -----------------------------------------------------------------------------------------------


def test_alone_nothing_is_sent():
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    broadcast_module(module)
    assert torch.equal(module.weight, before) and gather('x') == ['x']


@pytest.mark.parametrize('images, ranks', [(5, 2), (4, 2), (1, 3), (0, 2), (7, 3)])
def test_shares_come_together_in_the_order_of_one_process(images, ranks, monkeypatch):
    shares = [list(range(rank, images, ranks)) for rank in range(ranks)]
    monkeypatch.setattr('dynq_basicsr.training.distributed.gather', lambda own: shares)
    assert gather_shares(lambda: shares[0]) == list(range(images))


def test_a_failure_elsewhere_is_raised_here(monkeypatch):
    monkeypatch.setattr('dynq_basicsr.training.distributed.gather', lambda own: [own, 'x.png is empty.'])
    with pytest.raises(DynqError, match='x.png is empty'):
        gather_shares(lambda: [1])


@pytest.mark.parametrize('error, ranks, told', [
    (RuntimeError('[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1'), 2, True),
    (torch.distributed.DistBackendError('NCCL error: remote process exited'), 2, True),
    (RuntimeError('The size of tensor a (3) must match the size of tensor b (4)'), 2, False),
    (RuntimeError('Connection closed by peer'), 1, False),
])  # fmt: skip
def test_a_process_that_is_gone_is_told_in_a_sentence(error, ranks, told, monkeypatch):
    monkeypatch.setattr('dynq_basicsr.training.distributed.get_dist_info', lambda: (0, ranks))
    with pytest.raises(DynqError if told else RuntimeError) as found, together():
        raise error
    assert ('Another process of this run ended' in str(found.value)) == told
