"""The quick start: its data, its option files, its table, and how it fails."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from basicsr.archs import build_network
from safetensors import safe_open

from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.errors import DynqError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ('float', 'adabm_w4a4', 'adabm_test')
WEIGHTS = 'dynq_basicsr/weights/edsr_small_x4.safetensors'


@pytest.fixture
def data(load_script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    return load_script('quickstart_data')


@pytest.fixture
def quickstart(load_script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    return load_script('quickstart')


@pytest.fixture
def options():
    return {name: yaml.safe_load((ROOT / f'options/quickstart_{name}.yml').read_text()) for name in NAMES}


def test_every_photograph_is_in_the_wheel(data):
    for name in data.EVALUATION + data.CALIBRATION:
        image = data.photograph(name)
        assert image.dtype == np.uint8 and image.ndim == 3 and min(image.shape[:2]) >= 288
    with pytest.raises(DynqError, match='sunset.png is missing'):
        data.photograph('sunset.png')


def test_calibration_and_evaluation_are_disjoint(data):
    assert len(data.CALIBRATION) == 10 and not set(data.CALIBRATION) & set(data.EVALUATION)
    # The two views of a stereo pair must not be separated.
    assert not any('motorcycle' in name for name in data.CALIBRATION)


def test_tiles_are_parts_of_the_shrunk_photograph(data):
    image = np.random.RandomState(0).randint(0, 256, (301, 452, 3), np.uint8)
    tiles = data.calibration_tiles(image)
    assert [tile.shape for tile in tiles] == [(96, 96, 3)] * 10
    half, third = (data.imresize_uint8(image[:300, :450], scale) for scale in (2, 3))
    assert (tiles[0] == half[:96, :96]).all() and (tiles[8] == half[-96:, -96:]).all()
    assert (tiles[4] == half[27:123, 64:160]).all()
    assert (tiles[9] == third[2:98, 27:123]).all()


def test_data_are_made_once(data, tmp_path, monkeypatch):
    folder = tmp_path / 'datasets' / 'quickstart'
    assert data.prepare_data(folder)
    tiles = sorted((folder / 'calibration/LR').iterdir())
    assert len(tiles) == 100
    assert {cv2.imread(str(tile), cv2.IMREAD_UNCHANGED).shape for tile in tiles} == {(96, 96, 3)}
    for name in data.EVALUATION:
        stem = name.split('.')[0]
        hr = cv2.imread(str(folder / f'eval/HR/{stem}.png'))
        lr = cv2.imread(str(folder / f'eval/LR/{stem}x4.png'))
        assert (hr == data.photograph(name)[: hr.shape[0], : hr.shape[1]]).all()
        assert (lr == data.imresize_uint8(hr, 4)).all()
    assert sorted(path.name for path in folder.iterdir()) == ['calibration', 'eval']
    before = {path: path.stat().st_mtime_ns for path in folder.rglob('*')}
    assert not data.prepare_data(folder)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob('*')}


def test_interrupted_preparation_leaves_nothing(data, tmp_path, monkeypatch):
    def stop(image):
        raise KeyboardInterrupt

    monkeypatch.setattr(data, 'calibration_tiles', stop)
    with pytest.raises(KeyboardInterrupt):
        data.prepare_data(tmp_path / 'datasets' / 'quickstart')
    assert not list((tmp_path / 'datasets').iterdir())


def test_option_files_agree(options):
    floating, adabm, test = (options[name] for name in NAMES)
    assert adabm['network_g'] == test['network_g']
    assert adabm['network_g']['backbone'] == floating['network_g']
    assert floating['datasets'] == test['datasets']
    assert floating['val']['metrics'] == test['val']['metrics']
    for key in ('patch_size', 'patch_step', 'patch_merge'):
        assert floating['val'][key] == test['val'][key]
    assert floating['path']['pretrain_network_g'] == adabm['path']['pretrain_network_g'] == WEIGHTS
    assert test['path']['pretrain_network_g'] == f'experiments/{adabm["name"]}/models/net_g_latest.pth'


def test_fine_tuning_ends_with_a_whole_round_of_stages(options):
    train = options['adabm_w4a4']['train']
    assert (train['total_iter'] - train['calibration_iter']) % (train['stage_iter'] * len(train['stages'])) == 0


def test_embedded_weights_fit_the_option_files(options):
    network = options['float']['network_g']
    load_weights(build_network(dict(network)), ROOT / WEIGHTS)
    with safe_open(ROOT / WEIGHTS, 'pt') as file:
        trained = json.loads(file.metadata()['network_g'])
    assert {key: network[key] for key in trained} == trained


def test_outputs_are_what_the_option_files_write(quickstart, options):
    written = {f'results/{options[name]["name"]}' for name in ('float', 'adabm_test')}
    written.add(f'experiments/{options["adabm_w4a4"]["name"]}')
    assert set(quickstart.OUTPUTS) == written | {'results/quickstart'}


def test_table_holds_the_figures_of_the_files(quickstart, tmp_path, monkeypatch):
    monkeypatch.setattr(quickstart, 'ROOT', tmp_path)
    figures = {
        'results/quickstart_float/metrics.json': {
            'photographs': {'psnr': 28.8307, 'ssim': 0.84781, 'fab': 32.0, 'bitops_1080p': 94.607}
        },
        'results/quickstart_adabm_test/metrics.json': {
            'photographs': {'psnr': 28.6633, 'ssim': 0.84343, 'fab': 3.975, 'bitops_1080p': 56.071}
        },
        'experiments/quickstart_adabm_w4a4/adabm_timing.json': {
            'calibration': 2.26, 'weight': 12.0, 'activation': 11.5, 'mapping': 10.26,
        },
    }  # fmt: skip
    for name, content in figures.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(json.dumps(content))
    table = quickstart.summary({'float': 7.04, 'adabm': 8.76}, {'float': 233.027, 'adabm': 103.95})
    lines = table.splitlines()
    cells = [
        'network PSNR SSIM FAB BitOPs 1080p size calibration fine-tuning evaluation',
        'float 28.83 dB 0.8478 32.00 94.61T 233.0K - - 7.0 s',
        'AdaBM W4A4 28.66 dB 0.8434 3.98 56.07T 104.0K 2.3 s 33.8 s 8.8 s',
    ]
    assert [' '.join(lines[row].split()) for row in (0, 2, 3)] == cells


def test_sizes_count_four_bit_weights_as_an_eighth(quickstart):
    floating, adabm = (quickstart.model_size_of(f'options/quickstart_{name}.yml') for name in ('float', 'adabm_test'))
    saved = 16 * 32 * 32 * 9 * 7 / 8 / 1e3
    assert 0 <= adabm - (floating - saved) < 0.2


def test_failing_stage_ends_in_its_last_line(quickstart, tmp_path, capsys):
    log = tmp_path / 'log.txt'
    with pytest.raises(DynqError, match='quickstart_float.yml failed: .*No module named .*no_such_module') as caught:
        quickstart.run_stage('[1/3] Float', 'no_such_module', 'options/quickstart_float.yml', log)
    assert str(log) in str(caught.value) and 'no_such_module' in log.read_text()


def test_script_runs_from_anywhere_and_installs_nothing_twice(tmp_path):
    venv = tmp_path / 'venv'
    (venv / 'bin').mkdir(parents=True)
    python = venv / 'bin' / 'python'
    python.write_text('#!/bin/sh\necho "$PWD: $@"\n')
    python.chmod(0o755)
    files = [str(ROOT / name) for name in ('setup.py', 'scripts/common.sh')]
    stamp = subprocess.run(f'cat {" ".join(files)} | cksum', shell=True, capture_output=True, text=True).stdout
    (venv / 'dynq.stamp').write_text(stamp)
    result = subprocess.run(
        ['bash', str(ROOT / 'scripts/quickstart.sh')], cwd=tmp_path, env=os.environ | {'DYNQ_VENV': str(venv)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    where, _, command = result.stdout.partition(': ')
    assert where == str(ROOT) and re.fullmatch(r'scripts/quickstart.py --began \d+ --installed \d+\n', command)
