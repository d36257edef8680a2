"""The three lines of Python."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage import data

import dynq_basicsr
from dynq_basicsr.errors import DynqError

PHOTOS = [data.astronaut()[60 * i : 60 * i + 56, 200:256] for i in range(3)]


@pytest.fixture(scope='module')
def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 12, 3, padding=1),
        torch.nn.PixelShuffle(2),
    )  # fmt: skip


def test_three_lines(network, tmp_path):
    pytest.importorskip('onnxruntime')
    q = dynq_basicsr.quantize(network, PHOTOS, bits=4, method='minmax', scope='full', device='cpu')
    lr = torch.from_numpy(PHOTOS[0].transpose(2, 0, 1).copy())[None] / 255
    sr = q(lr)
    assert sr.shape == (1, 3, 112, 112)
    q.save(tmp_path / 'q.pth')
    q.export(tmp_path / 'model_dir')
    loaded = dynq_basicsr.load(tmp_path / 'model_dir').upscale(PHOTOS[0])
    assert np.array_equal(loaded, q(PHOTOS[0]))
    again = dynq_basicsr.load(tmp_path / 'q.pth', model=network, device='cpu')
    assert np.array_equal(again.upscale(PHOTOS[0]), loaded)


def test_a_plugin_brings_an_architecture(tmp_path):
    (tmp_path / 'mine.py').write_text(
        'from basicsr.utils.registry import ARCH_REGISTRY\n'
        'from torch import nn\n'
        '@ARCH_REGISTRY.register()\n'
        'class MyOwnNet(nn.Sequential):\n'
        '    def __init__(self, width=8):\n'
        '        convs = [nn.Conv2d(width, width, 3, padding=1) for _ in range(4)]\n'
        '        super().__init__(nn.Conv2d(3, width, 3, padding=1), *convs, nn.Conv2d(width, 12, 3, padding=1),'
        ' nn.PixelShuffle(2))\n'
    )
    from dynq_basicsr.plugins import load_plugins

    load_plugins([str(tmp_path / 'mine.py')])
    from basicsr.archs import build_network

    torch.save(build_network({'type': 'MyOwnNet'}).state_dict(), tmp_path / 'mine.pth')
    q = dynq_basicsr.quantize(
        tmp_path / 'mine.pth', PHOTOS, method='minmax', arch={'type': 'MyOwnNet'}, plugins=[tmp_path / 'mine.py'],
        device='cpu',
    )  # fmt: skip
    assert q.network.scale == 2 and q.network.plan.adaptive


def test_errors_are_sentences(tmp_path):
    for action in (lambda one: dynq_basicsr.quantize('net.pth', 'photos', plugins=one),
                   lambda one: dynq_basicsr.load('net.pth', plugins=one)):  # fmt: skip
        with pytest.raises(DynqError, match=r"^plugins: must be a list of files and modules; write \['mine.py'\]"):
            action('mine.py')
    with pytest.raises(DynqError, match='no such checkpoint'):
        dynq_basicsr.load(tmp_path / 'missing.pth')
    with pytest.raises(DynqError, match='no model folder'):
        dynq_basicsr.load(tmp_path)
    with pytest.raises(DynqError, match=r'there is no folder \(manifest\.json is missing\)'):
        dynq_basicsr.load(tmp_path / 'missing')


def test_importing_is_light():
    code = (
        'import sys, dynq_basicsr\n'
        'assert callable(dynq_basicsr.quantize) and callable(dynq_basicsr.load)\n'
        'print([name for name in ("torch", "basicsr", "cv2", "numpy", "onnxruntime") if name in sys.modules])'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_the_start_up_hook_is_not_needed(tmp_path):
    code = f'import dynq_basicsr\ndynq_basicsr.load({str(tmp_path / "absent.pth")!r})'
    off = os.environ | {'DYNQ_BASICSR_AUTOLOAD': '0'}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=off)
    assert 'DynqError' in done.stderr.splitlines()[-1] and 'no such checkpoint' in done.stderr
