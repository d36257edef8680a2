"""Networks to load into, and files to load from."""

import basicsr  # noqa: F401  (fills the registries)
import pytest
import torch
from basicsr.archs import build_network

from dynq_basicsr import plugin

plugin.register()

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 4}


def _build(**options):
    return build_network({**EDSR, **options}).eval()


@pytest.fixture
def edsr():
    """Build a small EDSR; options may be given anew."""
    return _build


@pytest.fixture
def quantized_edsr():
    """Build the same network, quantized."""

    def build(backbone=None, policy=None, **quantization):
        return build_network({
            'type': 'QuantizedSR',
            'backbone': {**EDSR, **(backbone or {})},
            'quantization': {'weight': {'bits': 4}, 'activation': {'bits': 4}, **quantization},
            'policy': policy or {'type': 'AdaBM'},
        })  # fmt: skip

    return build


@pytest.fixture
def weights():
    """The weights of another such network."""
    torch.manual_seed(7)
    return {key: value.clone() for key, value in _build().state_dict().items()}
