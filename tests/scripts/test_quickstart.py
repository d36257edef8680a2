"""The quick start: its data, its table, its pictures, and how it fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.metrics.psnr_ssim import calculate_psnr
from safetensors import safe_open
from skimage.data import astronaut

import dynq_basicsr
from dynq_basicsr.backbones.torch_files import to_bytes
from dynq_basicsr.errors import DynqError
from dynq_basicsr.workflow.source import find_network

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = 'dynq_basicsr/weights/edsr_small_x4.safetensors'


@pytest.fixture
def data(load_script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    return load_script('quickstart_data')


@pytest.fixture
def quickstart(load_script, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    return load_script('quickstart')


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


@pytest.fixture
def prepared(quickstart, tmp_path, monkeypatch):
    """A root with two small photographs, and a model folder of a small network."""
    root = tmp_path / 'root'
    for folder in ('HR', 'LR'):
        (root / f'datasets/quickstart/eval/{folder}').mkdir(parents=True)
    for index, name in enumerate(('a', 'b')):
        photo = np.ascontiguousarray(astronaut()[100 : 292, 150 + 40 * index : 342 + 40 * index, ::-1])
        cv2.imwrite(str(root / f'datasets/quickstart/eval/HR/{name}.png'), photo)
        small = cv2.resize(photo, (48, 48), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(root / f'datasets/quickstart/eval/LR/{name}x4.png'), small)
    (root / 'dynq_basicsr/weights').mkdir(parents=True)
    shutil.copyfile(ROOT / WEIGHTS, root / WEIGHTS)
    monkeypatch.setattr(quickstart, 'ROOT', root)
    made = dynq_basicsr.quantize(ROOT / WEIGHTS, astronaut()[:60, :60], method='minmax', device='cpu')
    folder = root / 'results/quickstart'
    folder.mkdir(parents=True)
    made.export(folder / 'model', {'quantized.pth': to_bytes(made.checkpoint())})
    return folder


def test_the_table_has_the_figures_of_the_pictures(quickstart, prepared):
    pytest.importorskip('onnxruntime')
    lines = quickstart.compare(prepared).splitlines()
    assert lines[0].split('  ')[0] == 'network' and [line.split('  ')[0] for line in lines[2:]] == [
        'bicubic', 'float', 'AdaBM W4A4']  # fmt: skip
    for line, name in zip(lines[2:], ('bicubic', 'float', 'AdaBM W4A4'), strict=True):
        figures = []
        for stem in 'ab':
            truth = quickstart.ROOT / f'datasets/quickstart/eval/HR/{stem}.png'
            result, truth = (cv2.imread(str(path)) for path in (prepared / name / f'{stem}.png', truth))
            figures.append(calculate_psnr(result, truth, crop_border=4, test_y_channel=True))
        assert f'{np.mean(figures):.2f} dB' in line
    size = sum(path.stat().st_size for path in map((prepared / 'model').joinpath, ('network.onnx', 'manifest.json')))
    assert f'{size / 1e6:.2f} MB' in lines[4] and ' 4.00 ' in lines[4]
    pictures = {path.name for path in prepared.glob('*.png')}
    assert pictures == {'a_bits.png', 'a_crops.png', 'b_bits.png', 'b_crops.png'}


def test_the_report_shows_the_photographs_beside_their_ground_truth(quickstart, prepared):
    pytest.importorskip('onnxruntime')
    page = quickstart.report(prepared)
    assert page == prepared / 'report.html'
    text = page.read_text(encoding='utf-8')
    assert text.count('alt="ax4, ground truth"') == text.count('alt="bx4, ground truth"') == 1
    assert 'the quantized one in ONNX Runtime.' in text


def test_a_failure_of_dynq_quantize_ends_it(quickstart, monkeypatch, tmp_path):
    monkeypatch.setattr(quickstart, 'WEIGHTS', 'absent.pth')
    with pytest.raises(DynqError, match='dynq quantize failed'):
        quickstart.quantize()


def test_embedded_weights_describe_themselves():
    with safe_open(ROOT / WEIGHTS, 'pt') as file:
        trained = json.loads(file.metadata()['network_g'])
    found = find_network(ROOT / WEIGHTS).backbone.options
    assert {key: found[key] for key in trained if key in found}.items() <= trained.items()


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
