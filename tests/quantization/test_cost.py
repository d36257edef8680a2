"""Operations and sizes against hand formulas and against the figures of the papers."""

import pytest
import torch
from basicsr.archs import build_network
from PIL import Image
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.quantization.cost import measure_cost, model_size
from dynq_basicsr.quantization.layers import quantize_layer
from dynq_basicsr.quantization.run import RunHolder
from dynq_basicsr.quantization.usage import BitUsage

EDSR_X4 = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 64, 'num_block': 16, 'upscale': 4}
PIXELS_1080P = 480 * 270  # of the LR image
SMALL = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}


def quantized(backbone, weight=4, activation=4, policy='AdaBM', **more):
    return QuantizedSR(
        backbone, {'weight': {'bits': weight}, 'activation': {'bits': activation}, **more}, {'type': policy}
    )


@pytest.fixture(scope='module')
def edsr_x4():
    torch.manual_seed(0)
    return quantized(EDSR_X4)


def test_size_of_edsr_x4_is_that_of_table_5(edsr_x4):
    body = 32 * 64 * 64 * 9
    assert model_size(build_network(EDSR_X4)) == 1_517_571
    # each layer adds three scalars of ranges and one of its bits, the image map two thresholds
    assert model_size(edsr_x4) == 1_517_571 - body + body * 4 / 32 + 32 * 4 + 2
    assert f'{model_size(edsr_x4) / 1e3:.1f}K' == '485.5K'
    assert f'{model_size(quantized(EDSR_X4, 8, 8, "Fixed")) / 1e3:.1f}K' == '632.9K'


@pytest.mark.parametrize('bits, size', [(6, '305.5K'), (4, '229.5K')])
def test_size_of_the_fully_quantized_edsr_x4_is_that_of_table_5(bits, size):
    net = quantized(EDSR_X4, bits, bits, scope='full')
    body, ends = 33 * 36_864, 1_728 + 147_456 * 2 + 1_728
    # 33 layers with four scalars, 4 ends with three, two thresholds
    assert model_size(net) == body * bits / 32 + ends * 8 / 32 + 2_691 + 33 * 4 + 4 * 3 + 2
    assert f'{model_size(net) / 1e3:.1f}K' == size


@pytest.mark.parametrize('bits, operations', [(6, '9.2T'), (5.7, '9.0T')])
def test_operations_of_the_fully_quantized_edsr_x4_are_those_of_table_5(shared_data, bits, operations):
    """Its FQ rows: whole images of Urban100, counted as the 527.0T are, float biases and activations included."""
    images = sorted((shared_data / 'benchmarks' / 'Urban100' / 'HR').glob('*.png'))
    if len(images) != 100:
        pytest.skip('the images of Urban100 (../shared/data/benchmarks) are not here')
    pixels = 0
    for path in images:
        with Image.open(path) as image:
            pixels += image.width * image.height / 4**2 / len(images)
    net = quantized(EDSR_X4, 6, 6, scope='full')
    cost = measure_cost(net)
    used = dict.fromkeys(net.plan.adaptive, bits) | dict.fromkeys(net.plan.ends, 8)
    done, floating = cost.bitops(pixels, used)
    assert done == pytest.approx(pixels * 2 * (33 * 36_864 * 6 * bits + 766_656 * 8 * 8))
    assert cost.float_macs == 0 and floating == pytest.approx(pixels * cost.elementwise * 1024)
    assert f'{(done + floating) / 1e12:.1f}T' == operations


def test_float_operations_of_edsr_x4_are_those_of_table_5(edsr_x4):
    cost = measure_cost(edsr_x4)
    assert sum(cost.layer_macs.values()) == 1_179_648
    assert cost.float_macs == 1_728 + 36_864 + 147_456 + 589_824 + 27_648
    total = sum(cost.bitops(PIXELS_1080P, {})) / 1e12
    assert f'{total:.2f}T {total:.1f}T' == '526.97T 527.0T'
    assert measure_cost(build_network(EDSR_X4)).bitops(PIXELS_1080P, {}) == (0, pytest.approx(total * 1e12))


def test_quantized_operations_weigh_bits_of_weights_times_bits_of_activations(edsr_x4):
    cost = measure_cost(edsr_x4)
    bits = {name: 3 + index % 3 for index, name in enumerate(cost.layer_macs)}
    done, floating = cost.bitops(1000, bits)
    assert done == pytest.approx(1000 * sum(2 * 36_864 * 4 * b for b in bits.values()))
    elementwise = cost.elementwise
    assert floating == pytest.approx(1000 * (2 * cost.float_macs + elementwise) * 1024)
    # biases: 64 channels of 34 convolutions at LR size, 2 x 256 before the shuffles, 3 at 16 times the pixels;
    # activations: 16 ReLUs
    assert elementwise == 34 * 64 + 256 + 4 * 256 + 16 * 3 + 16 * 64


def test_macs_of_each_layer_by_hand(network):
    cost = measure_cost(quantized({'type': 'EDSR', **SMALL}, layers=['Conv2d']))
    assert cost.layer_macs == {
        'conv_first': 3 * 8 * 9,
        **{f'body.{block}.conv{conv}': 8 * 8 * 9 for block in (0, 1) for conv in (1, 2)},
        'conv_after_body': 8 * 8 * 9,
        'upsample.0': 8 * 32 * 9,
        'conv_last': 4 * 8 * 3 * 9,
    }
    assert cost.float_macs == 0


class Odd(nn.Module):
    """Groups, strides, a transposed convolution, a linear layer and one layer that runs twice."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=4, bias=False)
        self.strided = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.twice = nn.Conv2d(8, 8, 1)
        self.linear = nn.Linear(8, 6)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)

    def forward(self, x):
        x = self.twice(self.twice(self.strided(self.grouped(x))))
        return self.up(self.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_unusual_layers_in_a_float_network():
    cost = measure_cost(Odd(), in_channels=4)
    macs = 8 * 1 * 9 + (8 * 8 * 9 + 2 * 8 * 8 + 8 * 6 + 6 * 4 * 4) / 4
    assert cost.layer_macs == {} and cost.float_macs == pytest.approx(macs)
    assert cost.elementwise == pytest.approx((8 + 2 * 8 + 6) / 4 + 4)


def test_unusual_layers_when_quantized():
    net, holder = Odd(), RunHolder()
    options = QuantizationOptions.from_dict({'weight': {'bits': 4}, 'activation': {'bits': 4}})
    for index, name in enumerate(('grouped', 'strided', 'twice', 'linear')):
        quantize_layer(net.get_submodule(name), name, index, options, holder)
    cost = measure_cost(net, in_channels=4)
    assert cost.layer_macs == {'grouped': 72, 'strided': 144, 'twice': 32, 'linear': 12}
    assert cost.float_macs == pytest.approx(6 * 4 * 4 / 4)


@pytest.mark.parametrize('training', [True, False])
def test_measuring_leaves_no_trace(training):
    net = quantized({'type': 'EDSR', **SMALL}).train(training)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    hooks = [dict(module._forward_hooks) for module in net.modules()]
    measure_cost(net)
    assert net.training == training and net.holder.run is None and not net.calibrated
    assert hooks == [dict(module._forward_hooks) for module in net.modules()]
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_float_activations_cost_32_bits():
    net = quantized({'type': 'EDSR', **SMALL}, weight=4, activation=32, policy='Fixed')
    net.calibrated = True
    bits = net(torch.zeros(1, 3, 8, 8), details=True).bits
    assert bits.shape == (4, 1)
    usage = BitUsage(measure_cost(net), [(0, 0, 8, 8)], 8, 8, static=net.static_bits())
    usage.add([0], net.plan.adaptive, bits)
    assert usage.fab() == 32
    assert usage.bitops()[0] == 64 * 4 * 576 * 2 * 4 * 32


def test_size_of_a_per_channel_network_counts_every_bound():
    plain = quantized({'type': 'EDSR', **SMALL}, policy='Fixed')
    channels = QuantizedSR({'type': 'EDSR', **SMALL}, {
        'weight': {'bits': 4, 'granularity': 'channel'}, 'activation': {'bits': 4}})  # fmt: skip
    assert model_size(channels) - model_size(plain) == 4 * (8 - 1)
