"""Networks whose blocks merge their branches whenever they run."""

import pytest
import torch
from torch import nn

from dynq_basicsr.archs.merging import MergedBlock, merge_modules
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.training.calibration import Calibration

pytest.importorskip('spandrel', reason='spandrel (extra community) is not installed')
from spandrel.architectures.SPAN import SPAN  # noqa: E402
from spandrel.architectures.SPAN.__arch.span import Conv3XC  # noqa: E402

W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}


@pytest.fixture
def span():
    torch.manual_seed(0)
    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2)


@torch.no_grad()
def test_convolutions_take_their_place(span, images):
    expected = span.eval()(images)
    assert merge_modules(span) is span
    assert not any(isinstance(module, Conv3XC) for module in span.modules())
    for mode in (True, False):  # which the blocks told apart
        torch.testing.assert_close(span.train(mode)(images), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_their_activation_stays(images):
    torch.manual_seed(0)
    net = nn.Sequential(Conv3XC(3, 4, gain1=2, relu=True)).eval()
    expected = net(images)
    torch.testing.assert_close(merge_modules(net)(images), expected)
    assert isinstance(net[0], MergedBlock) and expected.min() < 0


def test_what_only_resembles_them_stays():
    class Other(Conv3XC):
        def forward(self, x):
            return super().forward(x) ** 2

    net = nn.Sequential(Other(3, 4, gain1=2))
    assert type(merge_modules(net)[0]) is Other


def test_quantized_weights_are_what_is_trained_and_saved(span, images, tmp_path):
    file, quantized = str(tmp_path / 'span.pth'), str(tmp_path / 'quantized.pth')
    torch.save({'params': span.state_dict()}, file)  # whose merged weights were never written
    net = QuantizedSR({'type': 'Spandrel', 'path': file}, W4A4, {'type': 'AdaBM'}).eval()
    load_weights(net, file)
    with torch.no_grad():
        torch.testing.assert_close(net(images, mode='float'), span.eval()(images), rtol=1e-4, atol=1e-5)
    calibration = Calibration(net)
    calibration.observe(images)
    calibration.finish()
    net.train()(images).square().mean().backward()
    layers = net.quant_layers()
    assert len(layers) > 16 and all(layer.weight.grad.abs().sum() > 0 for layer in layers)
    with torch.no_grad():
        for layer in layers:
            layer.weight += 0.01
    result = net.eval()(images)
    torch.save({'params': net.state_dict(), 'description': net.description}, quantized)
    again = QuantizedSR(**{**net.description, 'backbone': {'type': 'Spandrel', 'path': quantized}}).eval()
    load_weights(again, quantized)
    assert torch.equal(again(images), result)
