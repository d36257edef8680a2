"""Bit maps of pictures, from the command line."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network

from dynq_basicsr import cli
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.report import bit_map
from dynq_basicsr.report.bit_map import HEADER, LEGEND, enlargement


def test_command_draws(option_file, image, tmp_path):
    out = tmp_path / 'pictures' / 'bits.png'
    assert cli.main(['report', 'bitmaps', '-opt', str(option_file), str(image), '--out', str(out)]) == 0
    factor = enlargement(40, 33)
    picture = cv2.imread(str(out))
    assert picture.shape[0] == HEADER + 40 * factor + LEGEND


def test_command_draws_another_checkpoint(option_file, image, tmp_path, monkeypatch):
    options = yaml.safe_load(option_file.read_text())
    quantized = options['network_g']
    other = options | {'network_g': {'type': 'QuantizedSR'}, 'path': {'pretrain_network_g': None}}
    option_file.write_text(yaml.safe_dump(other))
    quantization = quantized['quantization'] | {'activation': {'bits': 7}}
    net = QuantizedSR(quantized['backbone'], quantization)
    net.calibrated = True
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'other.pth')
    drawn = []
    monkeypatch.setattr(bit_map, 'save_bit_map', lambda lq, usage, path: drawn.append(usage.fab()))
    arguments = ['-opt', option_file, image, '--out', 'bits.png', '--checkpoint', tmp_path / 'other.pth']
    assert cli.main(['report', 'bitmaps', *map(str, arguments)]) == 0
    assert drawn == [7]


def test_command_loads_plugins(option_file, image, tmp_path, capsys):
    mine = tmp_path / 'mine.py'
    mine.write_text('raise ValueError("was read")')
    arguments = ['-opt', option_file, image, '--out', 'bits.png', '--plugin', mine]
    assert cli.main(['report', 'bitmaps', *map(str, arguments)]) == 2
    assert 'mine.py' in (error := capsys.readouterr().err) and 'was read' in error


def test_uncalibrated_network_is_refused(option_file, image, tmp_path, capsys):
    backbone = yaml.safe_load(option_file.read_text())['network_g']['backbone']
    torch.save({'params': build_network(backbone).state_dict()}, tmp_path / 'net.pth')
    out = tmp_path / 'bits.png'
    assert cli.main(['report', 'bitmaps', '-opt', str(option_file), str(image), '--out', str(out)]) == 2
    assert 'never calibrated' in capsys.readouterr().err and not out.exists()


@pytest.fixture
def model(option_file, tmp_path):
    """A folder as ``dynq quantize`` leaves it, as far as this command looks."""
    network = yaml.safe_load(option_file.read_text())['network_g']
    net = QuantizedSR(network['backbone'], network['quantization'], network['policy'])
    net.calibrated = True
    (tmp_path / 'model').mkdir()
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'model/quantized.pth')
    return tmp_path / 'model'


@pytest.mark.parametrize('name', ['.', 'quantized.pth'])
def test_a_model_draws_any_picture(name, model, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(bit_map, 'save_bit_map', lambda lq, usage, path: drawn.append((path.name, len(usage.boxes))))
    photos = tmp_path / 'photos'
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (50, 100, 3), np.uint8)
    cv2.imwrite(str(photos / 'a.png'), pixels)
    cv2.imwrite(str(photos / 'b.png'), pixels[..., 0].astype(np.uint16) * 257)
    cv2.imwrite(str(photos / 'c.png'), pixels[..., [0, 1, 2, 0]])
    line = ['report', 'bitmaps', '--model', str(model / name), str(photos), '--out', str(tmp_path / 'maps')]
    assert cli.main(line) == 0
    assert drawn == [('a_bits.png', 8), ('b_bits.png', 8), ('c_bits.png', 8)]
    drawn.clear()
    assert cli.main([*line, '--patch', '0']) == cli.main([*line, '--patch', '50']) == 0
    assert [boxes for _, boxes in drawn] == [1, 1, 1, 2, 2, 2]


def test_a_model_draws_the_colours_of_a_file(model, image, tmp_path):
    out = tmp_path / 'bits.png'
    assert cli.main(['report', 'bitmaps', '--model', str(model), str(image), '--out', str(out)]) == 0
    assert cv2.imread(str(out)).shape[0] == HEADER + 40 * enlargement(40, 33) + LEGEND


def test_patches_of_an_option_file_may_be_others(option_file, image, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(bit_map, 'save_bit_map', lambda lq, usage, path: drawn.append(len(usage.boxes)))
    line = ['report', 'bitmaps', '-opt', str(option_file), str(image), '--out', str(tmp_path)]
    assert cli.main(line) == cli.main([*line, '--patch', '0']) == cli.main([*line, '--patch', '20']) == 0
    assert drawn == [4, 1, 2]


@pytest.mark.parametrize(
    ('more', 'told'),
    [
        (['--model', 'exported', '--out', 'maps'], 'holds no quantized.pth; name the checkpoint'),
        (['model', '--model', 'model', '--out', 'bits.png'], 'there are several pictures; name a folder'),
        (['--model', 'model', '--out', 'maps', '--checkpoint', 'x.pth'], 'name the checkpoint as --model'),
        (['--model', 'model', '--out', 'maps', '--patch', '-1'], '--patch: must be'),
        (['--model', 'nothing.pth', '--out', 'maps'], 'nothing.pth'),
        (['--model', 'model', '--out', 'bits.jpg'], 'bits.jpg: bit maps are PNG files; name a .png, or a folder'),
        (['--model', 'model', '--out', 'bits.pdf'], 'bits.pdf: bit maps are PNG files'),
    ],
)
def test_mistakes_cost_a_sentence(more, told, model, image, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'exported').mkdir()
    assert cli.main(['report', 'bitmaps', str(image), *more]) == 2
    assert told in (error := capsys.readouterr().err) and 'Traceback' not in error
    assert not list(tmp_path.glob('bits.*'))


@pytest.mark.parametrize('way', ['itself', 'link', 'hard link', 'another'])
def test_no_picture_is_replaced(way, model, image, tmp_path, capsys):
    own, out = tmp_path / 'own.png', tmp_path / 'maps' / 'own.png'
    own.write_bytes(image.read_bytes())
    out.parent.mkdir()
    pictures = [own]
    if way == 'itself':
        out = own
    elif way == 'link':
        out.symlink_to(own)
    elif way == 'hard link':
        out.hardlink_to(own)
    else:
        pictures.append(tmp_path / 'maps/own_bits.png')
        pictures[1].write_bytes(image.read_bytes())
        out = out.parent
    line = ['report', 'bitmaps', '--model', str(model), *map(str, pictures), '--out', str(out)]
    assert cli.main(line) == 2
    assert 'is one of the pictures' in capsys.readouterr().err
    assert all(one.read_bytes() == image.read_bytes() for one in pictures)


def test_a_bad_picture_does_not_end_the_others(model, image, tmp_path, capsys):
    photos = tmp_path / 'photos'
    photos.mkdir()
    for name in ('a.png', 'c.png'):
        (photos / name).write_bytes(image.read_bytes())
    (photos / 'b.png').write_bytes(b'no picture')
    line = ['report', 'bitmaps', '--model', str(model), str(photos), '-o', str(tmp_path / 'maps')]
    assert cli.main(line) == 1
    told = capsys.readouterr()
    assert told.err.count('error: ') == 1 and 'b.png' in told.err and 'Traceback' not in told.err
    assert sorted(path.name for path in (tmp_path / 'maps').iterdir()) == ['a_bits.png', 'c_bits.png']


def test_two_maps_of_one_name_have_advice_that_fits(model, image, tmp_path, capsys):
    for name in ('a.png', 'a.bmp'):
        (tmp_path / name).write_bytes(image.read_bytes())
    names = [str(tmp_path / name) for name in ('a.png', 'a.bmp')]
    assert cli.main(['report', 'bitmaps', '--model', str(model), *names, '--out', str(tmp_path / 'maps')]) == 2
    error = capsys.readouterr().err
    assert 'draw them into different folders' in error and '--format' not in error
