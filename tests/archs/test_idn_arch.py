"""IDN: its shape, its formula, its published weights, and its way through the wrapper."""

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_psnr
from basicsr.utils import img2tensor, tensor2img
from basicsr.utils.color_util import bgr2ycbcr, rgb2ycbcr_pt, ycbcr2rgb
from basicsr.utils.matlab_functions import imresize
from torch import nn
from torch.nn.functional import leaky_relu

from dynq_basicsr.archs.idn_arch import IDN, upsample_bicubic
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.quantization.cost import measure_cost
from dynq_basicsr.quantization.layers import QuantConv2d
from dynq_basicsr.quantization.run import Mode, Run
from dynq_basicsr.training.calibration import Calibration

W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
ALL_CONVS = [f'conv{block}_{index}' for block in range(3, 7) for index in range(1, 7)]


@pytest.fixture
def idn():
    """Build a small network with seeded weights."""

    def build(**options):
        torch.manual_seed(0)
        return IDN(**{'num_feat': 16, **options}).eval()

    return build


@pytest.fixture
def published(shared_data):
    """Load the published weights, by scale and options."""

    def build(upscale, **options):
        path = shared_data / 'weights' / 'IDN' / f'IDN_x{upscale}.pth'
        if not path.is_file():
            pytest.skip('the published weights of IDN (../shared/data/weights/IDN) are not here')
        net = IDN(upscale=upscale, **options).eval()
        load_weights(net, path)
        return net

    return build


def read_pair(folder, name, scale):
    """Low and high resolution of an image of Set5, BGR, uint8."""
    low = folder / 'LR_bicubic' / f'X{scale}' / f'{name}x{scale}.png'
    return cv2.imread(str(low)), cv2.imread(str(folder / 'HR' / f'{name}.png'))


# -- shape and options -----------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize('upscale', [2, 3, 4])
@pytest.mark.parametrize('size', [(7, 9), (1, 1), (2, 5)])
@pytest.mark.parametrize('options', [{}, {'luma': True}, {'num_in_ch': 1, 'num_out_ch': 1}])
def test_output_is_upscaled(idn, upscale, size, options):
    net = idn(upscale=upscale, **options)
    channels, (height, width) = options.get('num_in_ch', 3), size
    output = net(torch.rand(2, channels, height, width))
    assert output.shape == (2, channels, height * upscale, width * upscale) and output.isfinite().all()


@pytest.mark.parametrize('options, named', [
    ({'upscale': 5}, 'upscale must be 2, 3 or 4, not 5'),
    ({'num_in_ch': 1}, 'num_in_ch and num_out_ch must be equal, not 1 and 3'),
    ({'num_in_ch': 1, 'num_out_ch': 1, 'luma': True}, 'num_in_ch must be 3, not 1'),
    ({'num_feat': 24}, 'num_feat must be a multiple of 16'),
    ({'num_feat': 0}, 'num_feat must be a multiple of 16'),
])  # fmt: skip
def test_wrong_options_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        IDN(**options)


def test_the_published_network_has_its_number_of_parameters():
    """Counted by hand from the widths 64, 48, 32, 64, 64, 48, 80 of Hui et al., section 4.2."""
    with torch.device('meta'):
        count = sum(parameter.numel() for parameter in IDN(luma=True).parameters())
    products = 9 * (64 * 48 + 48 * 32 // 4 + 32 * 64 + 48 * 64 + 64 * 48 // 4 + 48 * 80) + 80 * 64
    block = products + 48 + 32 + 64 + 64 + 48 + 80 + 64
    assert count == 4 * block + (9 * 64 + 64) + (9 * 64 * 64 + 64) + (64 * 17 * 17 + 1)


# -- formula ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('size', [(9, 6), (2, 7)])
def test_the_enlargement_is_matlabs(scale, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, *size, generator=generator)
    expected = torch.stack([imresize(image, scale) for image in x])
    torch.testing.assert_close(upsample_bicubic(x, scale), expected, rtol=0, atol=2e-6)


@torch.no_grad()
def test_a_block_is_the_formula(idn):
    net, x = idn(), torch.randn(1, 16, 5, 6)

    def run(name, y):
        return leaky_relu(net.get_submodule(name)(y), 0.05)

    first = run('conv4_3', run('conv4_2', run('conv4_1', x)))
    second = run('conv4_6', run('conv4_5', run('conv4_4', first[:, 4:])))
    expected = run('down2', torch.cat([x, first[:, :4]], 1) + second)
    assert net.conv4_2.groups == net.conv4_5.groups == 4 and net.conv4_1.groups == 1
    torch.testing.assert_close(net._distil(x, 4), expected)


@torch.no_grad()
@pytest.mark.parametrize('upscale', [2, 3, 4])
def test_the_transposed_convolution_is_added_from_row_and_column_scale_minus_1(idn, upscale):
    net, x = idn(upscale=upscale), torch.rand(1, 3, 6, 5)
    enlarged = upsample_bicubic(x, upscale)
    for parameter in net.upsample.parameters():
        parameter.zero_()
    torch.testing.assert_close(net(x), enlarged)
    net.upsample.bias.fill_(1)
    expected = enlarged.clone()
    expected[..., upscale - 1 :, upscale - 1 :] += 1
    torch.testing.assert_close(net(x), expected)


@torch.no_grad()
def test_rgb_images_are_luma_through_the_network_and_chroma_enlarged(idn):
    """The way through YCbCr, step by step, gives the same."""
    net, x = idn(luma=True).double(), torch.rand(2, 3, 8, 7, dtype=torch.float64)
    alone = idn(num_in_ch=1, num_out_ch=1).double()
    alone.load_state_dict(net.state_dict())
    output = net(x)
    ycbcr = rgb2ycbcr_pt(x)
    luma, chroma = alone(ycbcr[:, :1]), upsample_bicubic(ycbcr[:, 1:], 4)
    torch.testing.assert_close(rgb2ycbcr_pt(output, y_only=True), luma, rtol=0, atol=1e-6)
    torch.testing.assert_close(rgb2ycbcr_pt(output)[:, 1:], chroma, rtol=0, atol=1e-6)
    image = torch.cat([luma, chroma], 1)[0].permute(1, 2, 0).numpy().astype(np.float32)
    np.testing.assert_allclose(output[0].permute(1, 2, 0).numpy(), ycbcr2rgb(image), atol=1e-4)


def test_gradients_reach_every_parameter_and_the_image(idn):
    net, x = idn(luma=True, upscale=2), torch.rand(1, 3, 6, 6, requires_grad=True)
    net(x).square().sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).all()
    assert all((parameter.grad != 0).any() for parameter in net.parameters())


# -- published weights -----------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize('upscale, expected', [(4, 27.784), (2, 34.985)])
def test_published_weights_reach_their_psnr_on_luma(published, shared_data, upscale, expected):
    """butterfly, as the published code measures it: rounded Y, and its crop of scale - 1 rows and columns comes first.

    The mean over Set5 is then 31.827 and 37.768 dB, the figures of ../shared/data/README.md.
    """
    net = published(upscale, num_in_ch=1, num_out_ch=1)
    low, high = read_pair(shared_data / 'benchmarks' / 'Set5', 'butterfly', upscale)
    luma = torch.from_numpy(bgr2ycbcr(low.astype(np.float32) / 255, y_only=True))[None, None]
    truth = (bgr2ycbcr(high.astype(np.float32) / 255, y_only=True) * 255).round()
    lead = 2 * upscale - 1
    error = ((net(luma)[0, 0].numpy() * 255).round() - truth)[lead:-upscale, lead:-upscale]
    assert 10 * np.log10(255**2 / np.square(error, dtype=np.float64).mean()) == pytest.approx(expected, abs=0.003)


@torch.no_grad()
def test_published_weights_take_rgb_images(published, shared_data):
    """butterfly x4 as the option file evaluates it: 27.68 dB."""
    low, high = read_pair(shared_data / 'benchmarks' / 'Set5', 'butterfly', 4)
    image = img2tensor(low.astype(np.float32) / 255).unsqueeze(0)
    result = tensor2img(published(4, luma=True)(image))
    assert calculate_psnr(result, high, crop_border=4, test_y_channel=True) == pytest.approx(27.676, abs=0.005)


# -- quantized -------------------------------------------------------------------------------------------------------


def test_the_six_convolutions_of_each_block_adapt(quantized):
    net = quantized('IDN')
    assert list(net.plan.adaptive) == ALL_CONVS and net.plan.static == net.plan.ends == ()
    assert type(net.backbone.upsample) is nn.ConvTranspose2d


def test_macs_count_groups_and_the_transposed_convolution():
    cost = measure_cost(QuantizedSR({'type': 'IDN', 'luma': True}, W4A4))
    widths = (64 * 48, 48 * 32 // 4, 32 * 64, 48 * 64, 64 * 48 // 4, 48 * 80)
    assert [cost.layer_macs[name] for name in ALL_CONVS] == [9 * width for width in 4 * widths]
    ends = 9 * (64 + 64 * 64) + 4 * 80 * 64 + 64 * 17 * 17
    assert cost.float_macs == pytest.approx(ends)


@torch.no_grad()
def test_one_range_a_channel_fits_grouped_convolutions(quantized, images):
    section = {'weight': {'bits': 4, 'granularity': 'channel'}, 'activation': {'bits': 4}}
    net = quantized('IDN', section)
    calibration = Calibration(net)
    calibration.observe(images)
    calibration.finish()
    layer = net.backbone.conv3_2
    assert isinstance(layer, QuantConv2d) and layer.weight_range.upper.numel() == layer.out_channels == 8
    assert net(images).isfinite().all()


@torch.no_grad()
def test_a_grouped_convolution_is_its_groups(calibrated):
    net = calibrated('IDN', policy='Fixed')
    layer, x = net.backbone.conv3_2, torch.randn(2, 12, 5, 5)
    weight, grid = layer.quantized_weight(), layer.activation_range.grid(torch.tensor([4.0]))
    values = layer.activation_range.quantize(x, grid)
    parts = [
        torch.nn.functional.conv2d(values[:, 3 * k : 3 * k + 3], weight[2 * k : 2 * k + 2], padding=1) for k in range(4)
    ]
    for mode in (Mode.TRAINING, Mode.EXACT):
        net.holder.run = Run(mode, layers=len(net.quant_layers()))
        net.holder.run.grids[layer.position], net.holder.run.weights[layer.position] = grid, weight
        torch.testing.assert_close(layer(x), torch.cat(parts, 1) + layer.bias.view(1, -1, 1, 1))


@torch.no_grad()
def test_a_batch_of_two_at_different_bits_equals_two_of_one(calibrated, images):
    net = calibrated('IDN').double()
    pair = images[[0, 3]].double()
    together, bits, _ = net(pair, details=True)
    low, high = bits[net.plan.adaptive.index('conv3_2')].tolist()
    assert low < high
    alone = torch.cat([net(image.unsqueeze(0)) for image in pair])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
