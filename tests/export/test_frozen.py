"""Frozen layers hold the numbers of their fake-quantized twins exactly."""

import pytest
import torch

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.config.quantization import QuantizationOptions  # noqa: E402
from dynq_basicsr.export.frozen import bits_of, float_layer, freeze_layer  # noqa: E402
from dynq_basicsr.quantization.layers import quantize_layer  # noqa: E402
from dynq_basicsr.quantization.quantizers.step_table import StepTable  # noqa: E402
from dynq_basicsr.quantization.run import RunHolder  # noqa: E402

X = torch.linspace(-3, 3, 10001)


def layer_of(weight: dict, activation: dict, float_layer=None, candidates=(2, 3, 4, 5, 6, 7, 8)):
    """A layer with ranges."""
    torch.manual_seed(0)
    layer = float_layer or torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
    options = QuantizationOptions.from_dict({'weight': weight, 'activation': activation})
    quantize_layer(layer, 'some.layer', 0, options, RunHolder(), candidates)
    bound = layer.weight.detach().abs()
    layer.weight_range.set(bound.amax(dim=(1, 2, 3), keepdim=True) if options.weight.per_channel else bound.max() * 0.8)
    if layer.weight_range.offset is not None:
        layer.weight_range.offset.data.uniform_(-0.5, 0.5)
    if isinstance(layer.activation_range, StepTable):
        layer.activation_range.set(torch.linspace(0.5, 0.01, len(candidates)), signed=True)
    else:
        bounds = layer.activation_range.log_upper
        widths = torch.linspace(0.5, 1, bounds.numel()).view_as(bounds)
        layer.activation_range.set(-0.3 * widths, 2.1 * widths)
    return layer


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
@pytest.mark.parametrize('rounding', ['nearest', 'learned'])
@pytest.mark.parametrize('bits', [2, 4, 8])
def test_weights(bits, granularity, rounding):
    layer = layer_of({'bits': bits, 'granularity': granularity, 'rounding': rounding}, {'bits': 8})
    frozen = freeze_layer(layer, 8)
    assert frozen.weight.dtype == 'int8' and frozen.weight_bits == bits and frozen.weight_scale.shape == (6,)
    assert -(2 ** (bits - 1)) <= frozen.weight.min() and frozen.weight.max() < 2 ** (bits - 1)
    assert torch.equal(torch.from_numpy(frozen.float_weight()), layer.quantized_weight().detach())
    assert (frozen.bias == layer.bias.detach().numpy()).all()
    assert (frozen.stride, frozen.padding, frozen.dilation, frozen.groups) == ((2, 2), (1, 1), (1, 1), 2)


@pytest.mark.parametrize('quantizer', ['range', 'learned_range', 'learned_step', 'pams'])
@pytest.mark.parametrize('bits', [2, 5, 8])
@pytest.mark.parametrize('signed', [True, False])
def test_grids(quantizer, bits, signed):
    layer = layer_of({'bits': 8}, {'bits': 4, 'quantizer': quantizer})
    if quantizer == 'learned_step':
        layer.activation_range.signed.fill_(signed)
    elif quantizer in ('range', 'learned_range') and not signed:
        layer.activation_range.set(0, 1.3)
    grid = freeze_layer(layer, float(bits)).grid
    assert grid.top == 2**bits - (2 if quantizer == 'pams' else 1) and 0 <= grid.zero_point <= grid.top
    integers = (X / float(grid.scale)).round().add(grid.zero_point).clamp(0, grid.top)
    own = layer.activation_range.grid(torch.tensor([float(bits)]))
    assert torch.equal((integers - grid.zero_point) * float(grid.scale), layer.activation_range.quantize(X, own))


def test_what_stays_float():
    frozen = freeze_layer(layer_of({'bits': 32}, {'bits': 4}), 4)
    assert frozen.weight_scale is None and frozen.weight.dtype == 'float32' and not frozen.integer
    frozen = freeze_layer(layer_of({'bits': 4}, {'bits': 32}), 32)
    assert frozen.grid is None and frozen.weight_scale is not None and not frozen.integer


def test_linear_layers_and_missing_biases():
    frozen = freeze_layer(layer_of({'bits': 8}, {'bits': 8}, torch.nn.Linear(5, 6, bias=False)), 8)
    assert frozen.weight.shape == (6, 5) and frozen.integer and (frozen.bias == 0).all() and len(frozen.bias) == 6
    assert float_layer(layer_of({'bits': 8}, {'bits': 8})).weight.dtype == 'float32'


def test_channels_in_another_order():
    frozen = freeze_layer(layer_of({'bits': 4, 'granularity': 'channel'}, {'bits': 8}), 8)
    order = [3, 1, 0, 2, 5, 4]
    permuted = frozen.permuted(order)
    assert (permuted.float_weight() == frozen.float_weight()[order]).all() and (
        permuted.bias == frozen.bias[order]
    ).all()


def test_whose_bits():
    layer = layer_of({'bits': 8}, {'bits': 4})
    assert bits_of(layer, [7.0, 3.0]) == 7
    layer.index = None
    assert bits_of(layer, [7.0, 3.0]) == 4


def test_the_largest_sum():
    layer = torch.nn.Conv2d(64, 2, 3, padding=1)
    with torch.no_grad():
        layer.weight.fill_(0.1)
        layer.weight[1] = -0.05
    layer = layer_of({'bits': 8}, {'bits': 8}, layer)
    layer.weight_range.set(torch.tensor(0.1))
    layer.activation_range.set(0, 1)
    assert freeze_layer(layer, 8).largest_sum == 64 * 9 * 127 * 255
    layer.activation_range.set(-0.8, 0.2)
    assert freeze_layer(layer, 8).largest_sum == 64 * 9 * 127 * 204
