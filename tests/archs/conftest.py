"""Small networks of every architecture that has a profile."""

from importlib.util import find_spec

import basicsr  # noqa: F401  (fills the registries)
import pytest
import torch
from basicsr.archs import build_network
from torch import nn

from dynq_basicsr import plugin
from dynq_basicsr.training.calibration import Calibration

plugin.register()

IN_OUT = {'num_in_ch': 3, 'num_out_ch': 3}
# options and the number of layers that adapt in scope body
BACKBONES = {
    'EDSR': ({**IN_OUT, 'num_feat': 8, 'num_block': 2, 'upscale': 4}, 4),
    'MSRResNet': ({**IN_OUT, 'num_feat': 8, 'num_block': 3, 'upscale': 2}, 6),
    'SRResNetBN': ({'num_feat': 8, 'num_block': 2, 'upscale': 2}, 4),
    'RDN': ({'num_feat': 8, 'num_block': 2, 'num_layer': 2, 'num_grow_ch': 4, 'upscale': 2}, 6),
    'IDN': ({'num_feat': 16, 'upscale': 2, 'luma': True}, 24),
    'RCAN': ({**IN_OUT, 'num_feat': 8, 'num_group': 2, 'num_block': 3, 'squeeze_factor': 4, 'upscale': 2}, 12),
    'RRDBNet': ({**IN_OUT, 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4, 'scale': 4}, 30),
    'SwinIR': ({'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [2, 2], 'num_heads': [2, 2], 'embed_dim': 8,
                'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect', 'resi_connection': '1conv'}, 8),
    'HAT': ({'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [2, 2], 'num_heads': [2, 2], 'embed_dim': 8,
             'compress_ratio': 2, 'squeeze_factor': 2, 'mlp_ratio': 2}, 12),
    'SRVGGNetCompact': ({**IN_OUT, 'num_feat': 8, 'num_conv': 4, 'upscale': 2}, 4),
}  # fmt: skip
# what spandrel brings; the extra `community` may be missing
OPTIONAL = ('HAT',)
W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
FULL = {**W4A4, 'scope': 'full'}


def randomise(net):
    """Statistics of batch normalization are 0 and 1 in a fresh network, which would hide a mistake."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return net.eval()


@pytest.fixture
def bare():
    """Build a float network by the name of its class."""

    def build(kind):
        torch.manual_seed(0)
        return randomise(build_network({'type': kind, **BACKBONES[kind][0]}))

    return build


@pytest.fixture
def quantized():
    """Build the same network, with the same weights, quantized."""

    def build(kind, quantization=W4A4, policy='AdaBM', **options):
        torch.manual_seed(0)
        backbone = {'type': kind, **BACKBONES[kind][0]}
        return randomise(build_network({
            'type': 'QuantizedSR', 'backbone': backbone, 'quantization': quantization,
            'policy': {'type': policy, **options},
        }))  # fmt: skip

    return build


@pytest.fixture
def calibrated(quantized, images):
    """Build a quantized network and calibrate it."""

    def build(kind, **options):
        net = quantized(kind, **options)
        calibration = Calibration(net)
        calibration.observe(images)
        calibration.finish()
        return net

    return build


@pytest.fixture
def images():
    """Four images from nearly flat to very busy, (4, 3, 16, 24) in [0, 1]."""
    generator = torch.Generator().manual_seed(2)
    contrast = torch.tensor([0.02, 0.2, 0.5, 1.0]).view(-1, 1, 1, 1)
    return 0.5 + contrast * (torch.rand(4, 3, 16, 24, generator=generator) - 0.5)


needs_spandrel = pytest.mark.skipif(not find_spec('spandrel'), reason='spandrel (extra community) is not installed')


@pytest.fixture(params=[pytest.param(kind, marks=needs_spandrel if kind in OPTIONAL else ()) for kind in BACKBONES])
def kind(request):
    return request.param


@pytest.fixture(params=[W4A4, FULL], ids=['body', 'full'])
def section(request):
    """The quantization section of either scope."""
    return request.param


@pytest.fixture
def layer_count(kind):
    return BACKBONES[kind][1]
