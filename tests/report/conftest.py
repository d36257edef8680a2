"""Bits of an imaginary network, and a real one with an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.quantization.cost import NetworkCost
from dynq_basicsr.quantization.usage import BitUsage

BACKBONE = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 2, 'upscale': 2}
QUANTIZED = {
    'type': 'QuantizedSR',
    'backbone': BACKBONE,
    'quantization': {'weight': {'bits': 4}, 'activation': {'bits': 5}},
    'policy': {'type': 'Fixed'},
}


@pytest.fixture
def make_usage() -> Callable[..., BitUsage]:
    """Return a function of (height, width, boxes, layer name -> bits of each patch)."""

    def make(height: int, width: int, boxes: Sequence[tuple], bits: dict[str, Sequence[float]]) -> BitUsage:
        usage = BitUsage(NetworkCost(dict.fromkeys(bits, 1.0), 4, 1.0, 1.0), list(boxes), height, width)
        usage.bits.update({name: torch.tensor(row, dtype=torch.float32) for name, row in bits.items()})
        return usage

    return make


@pytest.fixture
def option_file(tmp_path) -> Path:
    """A calibrated tiny network whose option file asks for patches of 16 pixels."""
    torch.manual_seed(0)
    net = QuantizedSR(**{key: value for key, value in QUANTIZED.items() if key != 'type'})
    net.calibrated = True
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
def image(tmp_path) -> Path:
    """A small photograph of noise."""
    pixels = np.random.RandomState(0).randint(0, 256, (40, 33, 3), np.uint8)
    cv2.imwrite(str(tmp_path / 'lr.png'), pixels)
    return tmp_path / 'lr.png'
