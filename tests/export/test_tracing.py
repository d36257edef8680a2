"""Networks that read sizes in ways of their own, as ONNX."""

import threading

import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.archs.quantized_arch import QuantizedSR  # noqa: E402
from dynq_basicsr.errors import DynqError  # noqa: E402
from dynq_basicsr.export.freeze import trace  # noqa: E402
from dynq_basicsr.export.tracing import with_deep_stack  # noqa: E402

C = 8
W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.head, self.a, self.b, self.up = (nn.Conv2d(*io, 3, padding=1) for io in ((3, C), (C, C), (C, C), (C, 12)))

    def middle(self, y):
        return y

    def forward(self, x):
        return F.pixel_shuffle(self.up(self.b(self.middle(self.a(self.head(x)).relu()))), 2)


class SizesOfData(Plain):
    """As DITN."""

    def middle(self, y):
        n, c, h, w = y.data.shape
        return y.view(n, c, h * w).softmax(2).view(n, c, h, w) * 100


class TensorOfSizes(Plain):
    """As DySample."""

    def middle(self, y):
        _, _, h, w = y.shape
        return y / torch.tensor([h, w], dtype=y.dtype, device=y.device).view(2, 1, 1, 1).sum(0)


class SizesInPython(Plain):
    def middle(self, y):
        return y * (1 + int(y.shape[2]) % 7)


@pytest.mark.parametrize('kind, refused', [
    (Plain, ''), (SizesOfData, ''), (TensorOfSizes, ''), (SizesInPython, 'does not give the numbers of the network'),
])  # fmt: skip
def test_before_calibration(kind, refused):
    torch.manual_seed(0)
    net = QuantizedSR(kind(), W4A4, {'type': 'AdaBM'})
    if refused:
        with pytest.raises(DynqError, match=refused):
            trace(net)
    else:
        traced = trace(net)
        assert traced.fits(net)
        with torch.no_grad():
            net.backbone.a.weight.add_(1)  # quantized, no part of the graph
            assert traced.fits(net)
            net.backbone.up.weight.add_(1)
            assert not traced.fits(net)
    assert net.training and not net.calibrated


@pytest.mark.parametrize('part', ['weight', 'activation'])
def test_grids_of_no_integers(part):
    net = QuantizedSR(Plain(), W4A4 | {part: {'bits': 4, 'grid': 'literal'}})
    with pytest.raises(DynqError, match=f'a: quantization.{part}.grid is literal, whose '):
        trace(net)


def test_room_for_recursion():
    def deep(levels):
        return levels and 1 + deep(levels - 1)

    found, before = [], threading.stack_size()
    with_deep_stack(lambda: found.append(deep(100)))
    assert found == [100] and threading.stack_size() == before
    with pytest.raises(ZeroDivisionError):
        with_deep_stack(lambda: 1 / 0)
