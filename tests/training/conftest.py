"""A network whose blocks can be listened to."""

import pytest
import torch

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.training.feature_matching import tapped_modules

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}


@pytest.fixture
def network():
    """A tiny EDSR that tells what its blocks make; its ranges are no calibrated ones."""
    torch.manual_seed(0)
    net = QuantizedSR(EDSR, {'weight': {'bits': 4}, 'activation': {'bits': 4}}).eval()
    net.calibrated = True
    net.tap(tapped_modules(net.backbone, ['body.0', 'body.1']))
    return net
