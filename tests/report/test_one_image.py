"""A bit map of any image, with the network of any option file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.report import bitmaps
from dynq_basicsr.report.one_image import read_lr_image, read_options, use_network

BACKBONE = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 2, 'upscale': 2}
QUANTIZED = {
    'type': 'QuantizedSR',
    'backbone': BACKBONE,
    'quantization': {'weight': {'bits': 4}, 'activation': {'bits': 5}},
    'policy': {'type': 'Fixed'},
}


@pytest.fixture
def option_file(tmp_path):
    """A calibrated tiny network whose option file asks for patches of 16 pixels."""
    torch.manual_seed(0)
    net = QuantizedSR(**{key: value for key, value in QUANTIZED.items() if key != 'type'})
    net.calibrated.fill_(True)
    torch.save({'params': net.state_dict()}, tmp_path / 'net.pth')
    options = {
        'num_gpu': 0,
        'network_g': QUANTIZED,
        'path': {'pretrain_network_g': str(tmp_path / 'net.pth')},
        'val': {'save_img': False, 'patch_size': 16},
    }
    (tmp_path / 'test.yml').write_text(yaml.safe_dump(options))
    return tmp_path / 'test.yml'


@pytest.fixture
def image(tmp_path):
    pixels = np.random.RandomState(0).randint(0, 256, (40, 33, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'lr.png'), pixels)
    return tmp_path / 'lr.png'


def test_bits_of_each_patch_and_layer(option_file, image):
    usage = use_network(option_file, read_lr_image(image))
    assert usage.boxes == [(0, 0, 16, 16), (0, 16, 16, 33), (16, 0, 40, 16), (16, 16, 40, 33)]
    assert list(usage.bits) == ['body.0.conv1', 'body.0.conv2', 'body.1.conv1', 'body.1.conv2']
    assert usage.patch_bits.tolist() == [5, 5, 5, 5] and usage.fab() == 5


def test_command_draws(option_file, image, tmp_path):
    out = tmp_path / 'pictures' / 'bits.png'
    assert bitmaps.main(['-opt', str(option_file), '--image', str(image), '--out', str(out)]) == 0
    factor = bitmaps.enlargement(40, 33)
    picture = cv2.imread(str(out))
    assert picture.shape[0] == bitmaps.HEADER + 40 * factor + bitmaps.LEGEND


def test_command_draws_another_checkpoint(option_file, image, tmp_path, monkeypatch):
    options = yaml.safe_load(option_file.read_text())
    other = options | {'network_g': {'type': 'QuantizedSR'}, 'path': {'pretrain_network_g': None}}
    option_file.write_text(yaml.safe_dump(other))
    quantization = QUANTIZED['quantization'] | {'activation': {'bits': 7}}
    net = QuantizedSR(BACKBONE, quantization)
    net.calibrated.fill_(True)
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'other.pth')
    drawn = []
    monkeypatch.setattr(bitmaps, 'save_bit_map', lambda lq, usage, path: drawn.append(usage.fab()))
    arguments = ['-opt', option_file, '--image', image, '--out', 'bits.png', '--checkpoint', tmp_path / 'other.pth']
    assert bitmaps.main([*map(str, arguments)]) == 0
    assert drawn == [7]


def test_uncalibrated_network_is_refused(option_file, image, tmp_path, capsys):
    torch.save({'params': build_network(dict(BACKBONE)).state_dict()}, tmp_path / 'net.pth')
    out = tmp_path / 'bits.png'
    assert bitmaps.main(['-opt', str(option_file), '--image', str(image), '--out', str(out)]) == 2
    assert 'never calibrated' in capsys.readouterr().err and not out.exists()


def test_pixels_are_bgr(image):
    assert (read_lr_image(image) == cv2.imread(str(image))).all()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'no such option file'),
        ('[1, 2]', "section 'network_g' is missing"),
        ('network_g: {type: EDSR}', "section 'path' is missing"),
        ('network_g: {type: EDSR}\npath: {}', 'pretrain_network_g is empty'),
        ('!!python/object/apply:os.getcwd []', 'refused'),
    ],
)
def test_bad_option_files_are_named(tmp_path, content, message):
    path = tmp_path / 'bad.yml'
    if content is not None:
        path.write_text(content)
    with pytest.raises(DynqError, match=message) as caught:
        use_network(path, np.zeros((8, 8, 3), np.uint8))
    assert 'bad.yml' in str(caught.value)


def test_missing_image_is_named(tmp_path):
    with pytest.raises(DynqError, match='no such image'):
        read_lr_image(tmp_path / 'nowhere.png')


def test_options_keep_numbers(tmp_path):
    (tmp_path / 'a.yml').write_text('network_g: {lr: 1e-4}\npath: {}\n')
    assert read_options(tmp_path / 'a.yml')['network_g']['lr'] == 1e-4
