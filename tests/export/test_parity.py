"""``python -m dynq_basicsr.export.parity``: how many values of the integer graphs are PyTorch's."""

import json
import re

import cv2
import pytest
import torch
import yaml

pytest.importorskip('onnx', reason='the extra deploy is not installed')
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.cli import main  # noqa: E402
from dynq_basicsr.export import parity  # noqa: E402
from dynq_basicsr.export.check import Agreement  # noqa: E402
from dynq_basicsr.export.flips import FirstFlips  # noqa: E402
from dynq_basicsr.runtime.manifest import sealed  # noqa: E402

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}


@pytest.fixture
def run(calibrated, photo, tmp_path, capsys):
    """``run(*arguments)``: exit code, lines and errors of the command on two images and an exported network."""
    for folder in ('LR', 'HR'):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate('ab'):
        image = photo(56, 72, seed=seed)
        assert cv2.imwrite(str(tmp_path / 'HR' / f'{name}.png'), image)
        assert cv2.imwrite(str(tmp_path / 'LR' / f'{name}.png'), cv2.resize(image, (36, 28)))
    net = calibrated(EDSR, {'weight': {'bits': 8}, 'activation': {'bits': 6}}, {'type': 'AdaBM'})
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    options = {
        'scale': 2, 'num_gpu': 0, 'network_g': {'type': 'QuantizedSR'}, 'path': {},
        'val': {'patch_size': 24, 'patch_step': 20, 'patch_merge': 'split'},
        'datasets': {'test_1': {
            'name': 'photographs', 'type': 'PairedImageDataset', 'dataroot_gt': str(tmp_path / 'HR'),
            'dataroot_lq': str(tmp_path / 'LR'), 'io_backend': {'type': 'disk'},
        }},
    }  # fmt: skip
    (tmp_path / 'test.yml').write_text(yaml.safe_dump(options))
    given = ['-opt', str(tmp_path / 'test.yml'), '--checkpoint', str(tmp_path / 'net.pth')]
    assert main(['export', *given, '--out', str(tmp_path / 'model')]) == 0
    capsys.readouterr()

    def call(*arguments):
        code = parity.main([*given, '--model', str(tmp_path / 'model'), *arguments])
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.out.splitlines(), captured.err

    return call


def test_each_image_and_their_mean(run):
    code, lines, _ = run()
    assert code == 0 and [line.split(':')[0] for line in lines] == ['a', 'b', 'mean of 2']
    for line in lines:
        equal, within, itself, itself_within = map(float, re.findall(r'([\d.]+) % (?:equal|within)', line))
        assert 99.9 < equal <= within <= 100 and 99.9 < itself <= itself_within <= 100
        expected, found = map(float, re.search(r'([\d.]+) and ([\d.]+) dB', line).groups())
        assert 10 < expected < 60 and found == pytest.approx(expected, abs=0.001)
    assert all(line.endswith('every integer equal') for line in lines[:2])


def test_graphs_that_give_something_else_are_found_out(run, monkeypatch):
    class Halved(dict):
        def __getitem__(self, code):
            return lambda x: super(Halved, self).__getitem__(code)(x) / 2

    open_sessions = parity.open_sessions
    monkeypatch.setattr(parity, 'open_sessions', lambda *given: Halved(open_sessions(*given)))
    code, lines, _ = run('--images', '1')
    assert code == 0 and len(lines) == 2
    equal, _, itself, _ = map(float, re.findall(r'([\d.]+) % (?:equal|within)', lines[1]))
    expected, found = map(float, re.search(r'([\d.]+) and ([\d.]+) dB', lines[1]).groups())
    assert equal < 5 and itself > 98 and found < expected - 1


def test_what_it_refuses(run, tmp_path):
    code, lines, error = run('--set', 'test_2')
    assert (code, lines) == (2, []) and '--set test_2' in error
    graph = tmp_path / 'model' / 'network.onnx'
    graph.write_bytes(graph.read_bytes()[:-1])
    code, lines, error = run()
    assert (code, lines) == (2, []) and graph.name in error


def test_a_folder_that_lacks_a_code(run, tmp_path):
    path = tmp_path / 'model' / 'manifest.json'
    manifest = json.loads(path.read_text())
    gone = sorted(manifest['codes'])[0]
    del manifest['codes'][gone]
    manifest['policy']['codes'] = [code for code in manifest['policy'].get('codes', []) if code != gone]
    manifest['policy']['thresholds'] = manifest['policy'].get('thresholds', [])[1:]
    path.write_text(json.dumps(sealed(manifest)))
    code, lines, error = run()
    assert (code, lines) == (2, []) and f'has no grids for {gone}; it was exported from another network' in error


def test_the_mean_is_that_of_the_images():
    flips = FirstFlips('body.0', 2, 1000, 1e-6)
    rows = [
        parity.Row('a', Agreement(0.5, 0.9), Agreement(0.4, 0.8), (30.0, 30.5), flips),
        parity.Row('b', Agreement(0.7, 1.0), Agreement(0.6, 1.0), (32.0, 32.5), flips),
    ]
    assert parity.summary(rows) == (
        'mean of 2: 60.000 % equal, 95.0000 % within 1; PyTorch itself 50.000 % equal, 90.0000 % within 1; '
        'PSNR 31.0000 and 31.5000 dB'
    )
    assert parity.line(rows[0]).endswith('part in body.0: 2 of 1000, at most 1.0e-06 of a step from a tie')
