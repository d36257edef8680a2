"""Quantizer and product in one step: the numbers and gradients of the two, at the memory of one."""

import pytest
import torch
from torch import nn

from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.numerics.matmul import multiply
from dynq_basicsr.numerics.quantized_product import fuses, multiply_quantized

LAYERS = {
    'conv': lambda: (nn.Conv2d(8, 16, 3, padding=1), (4, 8, 10, 12)),
    'no bias': lambda: (nn.Conv2d(8, 16, 3, padding=1, bias=False), (4, 8, 10, 12)),
    'grouped': lambda: (nn.Conv2d(8, 16, 3, padding=1, groups=4), (4, 8, 10, 12)),
    'strided': lambda: (nn.Conv2d(8, 16, 3, stride=2, dilation=2), (4, 8, 11, 13)),
    'linear': lambda: (nn.Linear(8, 5), (4, 7, 8)),
    'linear, 2d': lambda: (nn.Linear(8, 5, bias=False), (4, 8)),
}


def case(kind):
    torch.manual_seed(0)
    layer, shape = LAYERS[kind]()
    x = torch.randn(shape)
    if len(shape) == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    grid = torch.tensor([[0.1, 0.2], [-7.0, -3.0], [8.0, 4.0]])
    return layer, x, grid


def gradients(run, layer, x, grid):
    x, grid = x.clone(memory_format=torch.preserve_format).requires_grad_(), grid.clone().requires_grad_()
    layer.zero_grad()
    result = run(x, grid)
    (result * torch.linspace(-1, 1, result.numel()).view_as(result)).sum().backward()
    return [result, x.grad, grid.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize('gradient', ['identity', 'tanh'])
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
@pytest.mark.parametrize('kind', LAYERS)
def test_equal_to_the_two_steps(kind, dtype, gradient):
    layer, x, grid = case(kind)
    assert fuses(layer, x, layer.weight)
    ours = gradients(
        lambda x, grid: multiply_quantized(layer, x, grid, gradient, layer.weight, layer.bias, dtype), layer, x, grid
    )
    theirs = gradients(
        lambda x, grid: multiply(layer, fake_quantize(x, grid, gradient, dtype), layer.weight, layer.bias, dtype),
        layer, x, grid,
    )  # fmt: skip
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=1e-6 if dtype is None else 0, atol=1e-5 if dtype is None else 0)


def test_what_needs_no_gradient_gets_none():
    layer, x, grid = case('conv')
    layer.requires_grad_(False)
    grid = grid.requires_grad_()
    multiply_quantized(layer, x, grid, 'identity', layer.weight, layer.bias).sum().backward()
    assert grid.grad.abs().sum() > 0 and layer.weight.grad is None and x.grad is None


def test_only_the_input_is_kept():
    layer, x, grid = case('conv')
    kept = []

    def pack(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        multiply_quantized(layer, x.requires_grad_(), grid, 'identity', layer.weight, layer.bias)
    assert [one.data_ptr() for one in kept if one.shape == x.shape] == [x.data_ptr()]


@pytest.mark.parametrize(
    'layer',
    [nn.Conv2d(8, 8, 3, padding=1, padding_mode='reflect'), nn.Conv2d(8, 8, 3, padding='same'),
     nn.Conv2d(64, 3, 9, padding=4)],
    ids=['padding mode', 'padding by name', 'polyphase'],
)  # fmt: skip
def test_other_ways_are_left_to_the_layer(layer):
    assert not fuses(layer, torch.randn(1, layer.in_channels, 8, 8), layer.weight)
