"""To what networks pad their images by themselves."""

import pytest
import torch.nn.functional as F
from torch import nn

from dynq_basicsr.archs.padding import SizeRequirement
from dynq_basicsr.archs.probe import probe
from dynq_basicsr.archs.self_padding import own_multiple


class Padding(nn.Module):
    """Scale 2; pads to a multiple, where that is not the case, and may put pixels into channels."""

    def __init__(self, multiple, shuffled=1, border=0):
        super().__init__()
        self.conv = nn.Conv2d(3 * shuffled**2, 12 * shuffled**2, 3, padding=1)
        self.multiple, self.shuffled, self.border = multiple, shuffled, border

    def forward(self, x):
        height, width = x.shape[2:]
        x = F.pad(x, (self.border, self.border, self.border, self.border))
        if height % self.multiple or width % self.multiple:
            x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple))
        x = F.pixel_shuffle(self.conv(F.pixel_unshuffle(x, self.shuffled)), 2 * self.shuffled)
        return x[:, :, 2 * self.border :, 2 * self.border :][:, :, : 2 * height, : 2 * width]


@pytest.mark.parametrize('options, expected', [
    ((1,), 1), ((2,), 2), ((6,), 6), ((8,), 8), ((7,), 1), ((16,), 16), ((64,), 64), ((2, 2), 2), ((8, 4), 8),
    ((1, 1, 18), 1),
])  # fmt: skip
def test_the_multiple(options, expected):
    assert own_multiple(Padding(*options), 3, SizeRequirement()) == expected


def test_sides_that_are_taken_anyway():
    assert own_multiple(Padding(1, 4), 3, SizeRequirement(4)) == 1


def test_networks_that_fail_or_have_no_convolution():
    assert own_multiple(Padding(1, 4), 3, SizeRequirement()) == 1
    assert own_multiple(nn.Upsample(scale_factor=2), 3, SizeRequirement()) == 1


def test_the_probe_tells():
    assert probe(Padding(8)).multiple == 8
