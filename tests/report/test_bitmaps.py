"""A bit map of any image, from the command line."""

from __future__ import annotations

import cv2
import torch
import yaml
from basicsr.archs import build_network

from dynq_basicsr import cli
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.report import bit_map
from dynq_basicsr.report.bit_map import HEADER, LEGEND, enlargement


def test_command_draws(option_file, image, tmp_path):
    out = tmp_path / 'pictures' / 'bits.png'
    assert cli.main(['report', 'bitmaps', '-opt', str(option_file), '--image', str(image), '--out', str(out)]) == 0
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
    arguments = ['-opt', option_file, '--image', image, '--out', 'bits.png', '--checkpoint', tmp_path / 'other.pth']
    assert cli.main(['report', 'bitmaps', *map(str, arguments)]) == 0
    assert drawn == [7]


def test_command_loads_plugins(option_file, image, tmp_path, capsys):
    mine = tmp_path / 'mine.py'
    mine.write_text('raise ValueError("was read")')
    arguments = ['-opt', option_file, '--image', image, '--out', 'bits.png', '--plugin', mine]
    assert cli.main(['report', 'bitmaps', *map(str, arguments)]) == 2
    assert 'mine.py' in (error := capsys.readouterr().err) and 'was read' in error


def test_uncalibrated_network_is_refused(option_file, image, tmp_path, capsys):
    backbone = yaml.safe_load(option_file.read_text())['network_g']['backbone']
    torch.save({'params': build_network(backbone).state_dict()}, tmp_path / 'net.pth')
    out = tmp_path / 'bits.png'
    assert cli.main(['report', 'bitmaps', '-opt', str(option_file), '--image', str(image), '--out', str(out)]) == 2
    assert 'never calibrated' in capsys.readouterr().err and not out.exists()
