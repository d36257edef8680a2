"""Convolutions on the grid of half the resolution: the same sums, the same gradients, only where they pay."""

import pytest
import torch
import torch.nn.functional as F

from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.numerics import matmul
from dynq_basicsr.numerics.matmul import multiply
from dynq_basicsr.numerics.polyphase import pays, polyphase_conv2d
from dynq_basicsr.quantization.layers import quantize_layer
from dynq_basicsr.quantization.run import Mode, Run, RunHolder


def operands(side, outputs=3, channels=5, size=(12, 14), seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return draw(2, channels, *size), draw(outputs, channels, side, side), draw(outputs)


@pytest.mark.parametrize('side', [1, 3, 5, 7, 9, 11])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_it_is_the_convolution(side, memory_format):
    x, weight, bias = operands(side)
    x = x.contiguous(memory_format=memory_format)
    for one in (bias, None):
        expected = F.conv2d(x, weight, one, padding=side // 2)
        torch.testing.assert_close(polyphase_conv2d(x, weight, one), expected, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_convolution():
    leaves = [tensor.requires_grad_() for tensor in operands(5)]
    x, weight, bias = leaves
    torch.manual_seed(1)
    wanted = torch.randn(2, 3, 12, 14, dtype=torch.float64)
    expected = torch.autograd.grad((F.conv2d(x, weight, bias, padding=2) * wanted).sum(), leaves)
    found = torch.autograd.grad((polyphase_conv2d(x, weight, bias) * wanted).sum(), leaves)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('changes', [
    {'stride': 2}, {'stride': (1, 2)}, {'padding': 0}, {'padding': 'same'}, {'dilation': 2}, {'padding': (2, 1)}
])  # fmt: skip
def test_other_convolutions_are_left_alone(changes):
    x, weight, _ = operands(5, channels=16)
    given = {'stride': 1, 'padding': (2, 2), 'dilation': 1}
    assert pays(x, weight, **given)
    assert not pays(x, weight, **{**given, **changes})


@pytest.mark.parametrize('x, weight', [
    ((2, 16, 11, 14), (3, 16, 5, 5)),  # an odd side
    ((2, 16, 12, 14), (8, 16, 5, 5)),  # enough outputs
    ((2, 16, 12, 14), (3, 16, 3, 3)),  # a small kernel
    ((2, 32, 12, 14), (2, 16, 5, 5)),  # groups
    ((2, 16, 12, 14), (3, 16, 5, 3)),  # no square
    ((16, 12, 14), (3, 16, 5, 5)),  # no batch
    ((2, 5, 12, 14), (3, 5, 5, 5)),  # few inputs
])
def test_shapes_that_do_not_pay(x, weight):
    assert not pays(torch.zeros(x), torch.zeros(weight), 1, 2, 1)


@pytest.fixture
def calls(monkeypatch):
    """The arguments with which ``multiply`` takes it."""
    calls = []

    def watched(*args):
        calls.append(args)
        return polyphase_conv2d(*args)

    monkeypatch.setattr(matmul, 'polyphase_conv2d', watched)
    return calls


@pytest.mark.parametrize('dtype, tolerance', [(None, 1e-5), (torch.bfloat16, 0.02)])
def test_layers_take_it_where_it_pays(calls, dtype, tolerance):
    x, weight, bias = (tensor.float() for tensor in operands(5, channels=16))
    same, smaller = torch.nn.Conv2d(16, 3, 5, padding=2), torch.nn.Conv2d(16, 3, 5, padding=1)
    found, other = (multiply(layer, x, weight, bias, dtype) for layer in (same, smaller))
    assert len(calls) == 1 and other.shape == (2, 3, 10, 12)
    expected = F.conv2d(x, weight, bias, padding=2)
    assert found.dtype == torch.float32 and (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize('options', [{'groups': 2}, {'padding_mode': 'reflect'}])
def test_groups_and_other_borders_do_not_take_it(calls, options):
    layer = torch.nn.Conv2d(32, 2, 5, padding=2, **options)
    x = torch.randn(1, 32, 12, 14, generator=torch.Generator().manual_seed(0))
    assert torch.equal(multiply(layer, x, layer.weight, layer.bias), layer(x)) and not calls


@torch.no_grad()
def test_layers_that_multiply_integers_take_it(calls):
    layer = torch.nn.Conv2d(16, 3, 9, padding=4)
    options = QuantizationOptions.from_dict({'weight': {'bits': 8}, 'activation': {'bits': 8}})
    quantize_layer(layer, 'tail', None, options, RunHolder())
    layer.weight_range.set(torch.tensor(0.02))
    x = torch.rand(1, 16, 10, 12)
    run = layer.holder.run = Run(Mode.EXACT, layers=1)
    run.grids[0] = layer.activation_range.grid(torch.tensor([8.0]))
    found = layer(x)
    assert len(calls) == 1
    calls.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matmul, 'pays', lambda *args: False)
        assert torch.equal(found, layer(x)) and not calls
