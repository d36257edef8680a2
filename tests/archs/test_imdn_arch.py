"""IMDN: its shape, its formula, its published weights, and its way through the wrapper."""

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from basicsr.metrics import calculate_psnr
from basicsr.utils import img2tensor, tensor2img

from dynq_basicsr.archs.imdn_arch import IMDN, ContrastAttention, DistillationModule
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import load_weights

W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
ADAPTIVE = [f'IMDB{block}.c{index}' for block in range(1, 7) for index in range(1, 5)]


@torch.no_grad()
@pytest.mark.parametrize('upscale', [2, 3, 4])
@pytest.mark.parametrize('size', [(7, 9), (1, 1)])
@pytest.mark.parametrize('options', [{}, {'num_in_ch': 1, 'num_out_ch': 1}, {'num_modules': 1}])
def test_output_is_upscaled(upscale, size, options):
    net = IMDN(num_feat=16, upscale=upscale, **options).eval()
    channels, (height, width) = options.get('num_in_ch', 3), size
    output = net(torch.rand(2, channels, height, width))
    assert output.shape == (2, channels, height * upscale, width * upscale) and output.isfinite().all()


@pytest.mark.parametrize('options, named', [
    ({'upscale': 5}, 'upscale must be 2, 3 or 4, not 5'),
    ({'num_feat': 24}, 'num_feat must be a multiple of 16, not 24'),
    ({'num_modules': 0}, 'num_modules must be at least 1, not 0'),
])  # fmt: skip
def test_wrong_options_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        IMDN(**options)


@torch.no_grad()
def test_attention_is_the_formula():
    torch.manual_seed(0)
    net, x = ContrastAttention(32), torch.randn(2, 32, 5, 6)
    contrast = x.flatten(2).std(dim=2, unbiased=False) + x.flatten(2).mean(dim=2)
    first, second = net.conv_du[0], net.conv_du[2]
    hidden = (contrast @ first.weight[..., 0, 0].T + first.bias).clamp(min=0)
    weight = torch.sigmoid(hidden @ second.weight[..., 0, 0].T + second.bias)
    torch.testing.assert_close(net(x), x * weight[..., None, None])


@torch.no_grad()
def test_a_module_keeps_a_quarter_three_times():
    torch.manual_seed(0)
    net, x = DistillationModule(16), torch.randn(1, 16, 5, 6)
    parts, rest = [], x
    for conv in (net.c1, net.c2, net.c3):
        result = F.leaky_relu(conv(rest), 0.05)
        parts.append(result[:, :4])
        rest = result[:, 4:]
    expected = net.c5(net.cca(torch.cat([*parts, net.c4(rest)], 1))) + x
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize('size', [(1, 1), (6, 5)])
def test_gradients_are_finite_where_a_channel_is_flat(size):
    """The root of a variance of zero has none of its own."""
    torch.manual_seed(0)
    net, x = IMDN(num_feat=16, num_modules=1), torch.rand(2, 3, *size, requires_grad=True)
    with torch.no_grad():
        net.IMDB1.c4.weight[0], net.IMDB1.c4.bias[0] = 0, 0.125
    net(x).square().sum().backward()
    assert x.grad.isfinite().all() and all(parameter.grad.isfinite().all() for parameter in net.parameters())


@torch.no_grad()
@pytest.mark.parametrize('upscale, expected', [(4, 32.210), (2, 37.996)])
def test_published_weights_reach_their_psnr(shared_data, upscale, expected):
    """The figures of ../shared/data/README.md, mean over Set5 on Y, the scale as border."""
    path = shared_data / 'weights' / 'IMDN' / f'IMDN_x{upscale}.pth'
    if not path.is_file():
        pytest.skip('the published weights of IMDN (../shared/data/weights/IMDN) are not here')
    net, folder, values = IMDN(upscale=upscale).eval(), shared_data / 'benchmarks' / 'Set5', []
    load_weights(net, path)
    for truth in sorted((folder / 'HR').glob('*.png')):
        low = cv2.imread(str(folder / 'LR_bicubic' / f'X{upscale}' / f'{truth.stem}x{upscale}.png'))
        result = tensor2img(net(img2tensor(low.astype(np.float32) / 255).unsqueeze(0)))
        high = cv2.imread(str(truth))[: result.shape[0], : result.shape[1]]
        values.append(calculate_psnr(result, high, crop_border=upscale, test_y_channel=True))
    assert np.mean(values) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize('scope', ['body', 'full'])
def test_which_layers_adapt(scope):
    net = QuantizedSR({'type': 'IMDN'}, W4A4 | {'scope': scope}, {'type': 'AdaBM'})
    fused = [f'IMDB{block}.c5' for block in range(1, 7)]
    expected = sorted([*ADAPTIVE, *fused, 'c.0', 'LR_conv'] if scope == 'full' else ADAPTIVE)
    assert sorted(net.plan.adaptive) == expected
    assert sorted(net.plan.ends) == (['fea_conv', 'upsampler.0'] if scope == 'full' else [])
    assert not [layer.name for layer in net.quant_layers() if 'cca' in layer.name]
