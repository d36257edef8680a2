"""A small network with weights that do something, and pictures for it."""

import pytest
import torch
from skimage import data

from dynq_basicsr import plugin
from dynq_basicsr.archs.arch_options import build_backbone

plugin.register()

COMPACT = {'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 4, 'upscale': 2}


@pytest.fixture(scope='session')
def compact(tmp_path_factory):
    """A checkpoint of a small network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp('compact') / 'compact.pth'
    torch.save({'params': build_backbone(COMPACT).state_dict()}, path)
    return path


@pytest.fixture(scope='session')
def photos():
    """Seven pieces of photographs, (H, W, 3) uint8."""
    astronaut, coffee = data.astronaut(), data.coffee()
    return [astronaut[64 * i : 64 * i + 56, 200:260] for i in range(4)] + [coffee[90 * i : 90 * i + 60, 200:264]
                                                                          for i in range(3)]  # fmt: skip
