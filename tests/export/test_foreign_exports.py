"""Exports of networks that no profile names: other ranges, results that hold the image, layers that run twice."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

pytest.importorskip('onnx', reason='the extra deploy is not installed')
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.archs.quantized_arch import QuantizedSR  # noqa: E402
from dynq_basicsr.errors import DynqError  # noqa: E402
from dynq_basicsr.export.check import agreement, run_at  # noqa: E402
from dynq_basicsr.export.flips import find_first_flips  # noqa: E402
from dynq_basicsr.export.freeze import freeze  # noqa: E402
from dynq_basicsr.models.tiling import TilingOptions  # noqa: E402
from dynq_basicsr.runtime.manifest import Manifest  # noqa: E402
from dynq_basicsr.runtime.sessions import open_sessions  # noqa: E402
from dynq_basicsr.training.calibration import Calibration  # noqa: E402

C = 8


class Plain(nn.Module):
    """Head, two convolutions, upsampler of scale 2."""

    def __init__(self):
        super().__init__()
        self.head, self.a, self.b, self.up = (nn.Conv2d(*io, 3, padding=1) for io in ((3, C), (C, C), (C, C), (C, 12)))

    def middle(self, y):
        return self.b(self.a(y).relu())

    def forward(self, x):
        y = self.head(x)
        return F.pixel_shuffle(self.up(y + self.middle(y)), 2)


class OnLargeValues(Plain):
    """Works on 0 .. 255, and gives the image among others."""

    def forward(self, x):
        return {'lr': x, 'sr': super().forward(x - 114.0) + 114.0}


class InTuple(Plain):
    def forward(self, x):
        return x, super().forward(x)


class Recursive(Plain):
    """One convolution runs three times, the last time before a pixel shuffle."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Conv2d(C, 4 * C, 3, padding=1)
        self.narrow = nn.Conv2d(4 * C, C, 1)

    def middle(self, y):
        y = self.a(self.a(y).relu()).relu()
        z = self.narrow(self.wide(y).relu())
        return self.b(y) + F.avg_pool2d(F.pixel_shuffle(self.wide(z), 2).repeat(1, 4, 1, 1)[:, :C], 2)


class Windows(Plain):
    """PyTorch's own attention within windows."""

    def __init__(self):
        super().__init__()
        self.norm, self.mha = nn.LayerNorm(C), nn.MultiheadAttention(C, 2, batch_first=True)

    def middle(self, y):
        n, c, h, w = y.shape
        t = self.a(y).relu().view(n, c, h // 8, 8, w // 8, 8).permute(0, 2, 4, 3, 5, 1).reshape(-1, 64, c)
        t = self.norm(t)
        t = t + self.mha(t, t, t, need_weights=False)[0]
        return self.b(t.view(n, h // 8, w // 8, 8, 8, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w))


class WholeImages(Windows):
    def middle(self, y):
        t = self.norm(self.a(y).flatten(2).transpose(1, 2))
        return self.b(y + self.mha(t, t, t, need_weights=False)[0].transpose(1, 2).reshape(y.shape))


class BatchStatistics(Plain):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(C, track_running_stats=False)

    def middle(self, y):
        return self.b(self.norm(self.a(y)).relu())


class InstanceNorm(BatchStatistics):
    def __init__(self):
        super().__init__()
        self.norm = nn.InstanceNorm2d(C, affine=True)


@pytest.fixture
def calibrated_module(photo, as_batch):
    """``calibrated_module(kind, value_range=None)``: a seeded network of a class, quantized and calibrated."""

    def build(kind, value_range=None, scope='body'):
        torch.manual_seed(0)
        quantization = {'weight': {'bits': 4}, 'activation': {'bits': 4}, 'scope': scope}
        net = QuantizedSR(kind(), quantization, {'type': 'AdaBM'}, value_range).eval()
        calibration = Calibration(net)
        calibration.observe(torch.cat(as_batch(photo(24, 144)).split(24, dim=3)))
        calibration.finish()
        return net

    return build


@pytest.mark.parametrize('kind, value_range, scope, exact', [
    (Plain, None, 'full', True), (OnLargeValues, 255.0, 'body', True), (OnLargeValues, 255.0, 'full', True),
    (InTuple, None, 'body', True), (Recursive, None, 'body', True), (Recursive, None, 'full', True),
    (Windows, None, 'body', False), (InstanceNorm, None, 'body', False),
])  # fmt: skip
def test_graphs_take_and_give_images_in_0_to_1_and_compute_what_the_network_does(
    kind, value_range, scope, exact, calibrated_module, tmp_path, photo, as_batch
):
    net = calibrated_module(kind, value_range, scope)
    freeze(net, tmp_path / 'model', TilingOptions(24))
    manifest = Manifest.load(tmp_path / 'model')
    assert (manifest.scale, manifest.channels) == (2, 3)
    image = as_batch(photo(24, 40))
    for code, bits in net.policy.bit_configs().items():
        content, grids = manifest.network.read(), manifest.assignments[code].grids
        expected = run_at(net, image, bits).numpy()
        result = open_sessions(content, code, {code: grids})[code](image.numpy())
        agreed = agreement(expected, result)
        assert agreed.equal > (0.999 if exact else 0.98) and agreed.within_one > 0.999
        flips = find_first_flips(net, bits, content, grids, image)
        assert flips.count <= (0 if exact else 1e-3 * flips.values) and flips.distance < 1e-3, flips
        if exact:
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('kind, said', [
    (BatchStatistics, r'^norm: BatchNorm2d without running statistics'),
    (WholeImages, r'^WholeImages: its ONNX graph does not give .* \(nn\.MultiheadAttention can be exported on windows'),
])  # fmt: skip
def test_what_no_graph_stands_for_is_refused_in_one_sentence(kind, said, calibrated_module, tmp_path, capfd):
    net = calibrated_module(kind)
    capfd.readouterr()
    with pytest.raises(DynqError, match=said):
        freeze(net, tmp_path / 'model', TilingOptions(24))
    assert capfd.readouterr() == ('', '') and not (tmp_path / 'model').exists()


def test_operators_that_onnx_lacks_are_refused_without_a_dump(calibrated_module, tmp_path, capfd):
    class Sorting(Plain):
        def middle(self, y):
            return self.b(torch.kthvalue(self.a(y), 2, dim=1, keepdim=True).values + y)

    net = calibrated_module(Sorting)
    capfd.readouterr()
    with pytest.raises(DynqError, match=r'^Sorting: PyTorch cannot write it as ONNX \(.*\)\.$'):
        freeze(net, tmp_path / 'model', TilingOptions(24))
    assert capfd.readouterr() == ('', '')
