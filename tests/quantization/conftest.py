"""Small networks of BasicSR's own classes."""

from contextlib import contextmanager

import basicsr  # noqa: F401  (fills the registries)
import pytest
import torch
from basicsr.archs import build_network

from dynq_basicsr import plugin
from dynq_basicsr.quantization.observers import InputObserver
from dynq_basicsr.quantization.run import Mode, Run

plugin.register()

NETWORKS = {
    'EDSR': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2},
    'MSRResNet': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2},
    'RCAN': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_group': 2, 'num_block': 2, 'squeeze_factor': 4,
             'upscale': 2},
    'SRVGGNetCompact': {'num_feat': 8, 'num_conv': 3, 'upscale': 2},
    'SwinIR': {'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [2, 2], 'num_heads': [2, 2], 'embed_dim': 8,
               'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect', 'resi_connection': '1conv'},
}  # fmt: skip


@pytest.fixture
def network():
    """Build a small network by the name of its class; options may be given anew."""

    def build(kind, **options):
        torch.manual_seed(0)
        return build_network({'type': kind, **NETWORKS[kind], **options}).eval()

    return build


@pytest.fixture
def random():
    """Draw normal numbers of a shape, the same ones for the same seed."""
    return lambda *shape, seed=0: torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def observed():
    """Make an observer that has seen some inputs."""

    def observe(*inputs):
        observer = InputObserver()
        for x in inputs:
            observer.observe(x)
        return observer

    return observe


@pytest.fixture
def running():
    """Let one quantized layer be part of a run, which knows its grid and its weight as a network would tell it."""

    @contextmanager
    def start(layer, bits=None, mode=Mode.TRAINING, dtype=None):
        run = Run(mode, dtype, layers=1)
        if bits is not None:
            run.grids[0] = layer.activation_range.grid(torch.as_tensor(bits, dtype=torch.float32).view(-1))
        if mode is Mode.TRAINING or not layer.integer:
            run.weights[0] = layer.quantized_weight()
        layer.holder.run = run
        yield run
        layer.holder.run = None

    return start
