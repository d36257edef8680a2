"""The papers' SRResNet: its shape, its formula and its published weights."""

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr
from basicsr.utils import img2tensor, tensor2img

from dynq_basicsr.archs.srresnet_bn_arch import ResidualBlockBN, SRResNetBN
from dynq_basicsr.backbones.checkpoints import load_weights


@torch.no_grad()
@pytest.mark.parametrize('upscale', [2, 4])
def test_output_is_upscaled_and_within_0_and_1(upscale):
    torch.manual_seed(0)
    output = SRResNetBN(num_feat=8, num_block=1, upscale=upscale).eval()(torch.rand(2, 3, 7, 9))
    assert output.shape == (2, 3, 7 * upscale, 9 * upscale)
    assert output.min() >= 0 and output.max() <= 1


@pytest.mark.parametrize('upscale', [1, 3, 8])
def test_other_scales_are_refused(upscale):
    with pytest.raises(ValueError, match='upscale must be 2 or 4'):
        SRResNetBN(upscale=upscale)


@torch.no_grad()
def test_a_block_is_the_formula():
    torch.manual_seed(1)
    block = ResidualBlockBN(4).eval()
    for norm in (block.bn1, block.bn2):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 4, 5, 5)

    def normalise(y, norm):
        mean, deviation = norm.running_mean.view(1, -1, 1, 1), (norm.running_var + 1e-3).sqrt().view(1, -1, 1, 1)
        return (y - mean) / deviation * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)

    y = normalise(block.conv1(x), block.bn1)
    y = torch.where(y > 0, y, 0.25 * y)
    torch.testing.assert_close(block(x), x + normalise(block.conv2(y), block.bn2))


@torch.no_grad()
def test_published_weights_reach_their_psnr_on_set5(shared_data):
    """32.01 dB on the luma (../shared/data/README.md)."""
    net = SRResNetBN().eval()
    load_weights(net, shared_data / 'weights' / 'SRResNet' / 'SRResNet_BN_x4.pth')
    psnr = []
    for path in sorted((shared_data / 'benchmarks' / 'Set5' / 'HR').glob('*.png')):
        low = cv2.imread(str(path.parents[1] / 'LR_bicubic' / 'X4' / f'{path.stem}x4.png'))
        lq = img2tensor(low.astype(np.float32) / 255).unsqueeze(0).contiguous(memory_format=torch.channels_last)
        psnr.append(calculate_psnr(tensor2img(net(lq)), cv2.imread(str(path)), crop_border=4, test_y_channel=True))
    assert len(psnr) == 5 and np.mean(psnr) == pytest.approx(32.01, abs=0.01)
