"""Sums in float64 are those of PyTorch's own kernel, whichever way they are computed."""

import pytest
import torch
from torch import nn

from dynq_basicsr.numerics import float64
from dynq_basicsr.numerics.float64 import convolve_in_float64

LAYERS = {
    'by taps': lambda: nn.Conv2d(16, 5, 3, padding=1),
    'by taps, no bias': lambda: nn.Conv2d(16, 5, (5, 3), padding=(2, 1), bias=False),
    'few channels': lambda: nn.Conv2d(3, 5, 9, padding=4),
    'by taps, of which there is one': lambda: nn.Conv2d(16, 5, 1),
    'strided': lambda: nn.Conv2d(16, 5, 3, padding=1, stride=2),
    'dilated': lambda: nn.Conv2d(16, 5, 3, padding=1, dilation=2),
    'grouped': lambda: nn.Conv2d(32, 6, 3, padding=1, groups=2),
    'no padding': lambda: nn.Conv2d(16, 5, 3),
    'even kernel': lambda: nn.Conv2d(16, 5, 2, padding=1),
    'reflected border': lambda: nn.Conv2d(16, 5, 3, padding=1, padding_mode='reflect'),
}


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_it_is_the_rounded_convolution(kind, layout, monkeypatch):
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    x = torch.randn(2, layer.in_channels, 11, 7).to(memory_format=layout)
    taken = []
    monkeypatch.setattr(float64, '_by_taps', lambda *a, by=float64._by_taps: taken.append(kind) or by(*a))
    result = convolve_in_float64(layer, x)
    assert result.dtype == torch.float32 and bool(taken) == kind.startswith('by taps')
    exact = LAYERS[kind]().double()
    exact.load_state_dict(layer.state_dict())
    assert torch.equal(result, exact(x.double()).float()) and result.is_contiguous(memory_format=layout)
    assert not torch.equal(result, layer(x))
