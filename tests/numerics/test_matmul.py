"""Products in bfloat16: near float32, exact on small integers, and float32 afterwards."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynq_basicsr.numerics import matmul
from dynq_basicsr.numerics.matmul import PRECISIONS, matmul_dtype, multiply

BF16 = torch.bfloat16


def integers(*shape, low, high, seed):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_integers_are_exact_as_long_as_the_result_is():
    """8-bit integers times 2-bit integers; the sums stay below 256, which bfloat16 holds exactly."""
    x, weight = integers(2, 2, 6, 6, low=0, high=8, seed=0), integers(3, 2, 3, 3, low=-1, high=2, seed=1)
    found = multiply(nn.Conv2d(2, 3, 3, padding=1), x, weight, None, BF16)
    assert torch.equal(found, torch.conv2d(x.double(), weight.double(), padding=1).float())
    row, matrix = x[0, 0], weight[0, 0, :1].repeat(1, 2)
    assert torch.equal(multiply(nn.Linear(6, 1), row, matrix, None, BF16), row @ matrix.T)


def test_products_accumulate_in_float32():
    x, weight = torch.ones(1, 1000), torch.full((1, 1000), 1.0)
    assert multiply(nn.Linear(1000, 1), x, weight, None, BF16).item() == 1000  # bfloat16 alone would stop at 256


@pytest.mark.parametrize('layer, shape', [(nn.Conv2d(8, 8, 3, padding=1), (2, 8, 9, 9)), (nn.Linear(8, 5), (3, 8))])
def test_results_are_float32_and_near(layer, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    expected = layer(x)
    found = multiply(layer, x, layer.weight, layer.bias, BF16)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    assert not torch.equal(found, expected)


def test_operands_that_are_cast_already_give_the_same():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(8, 8, 3), torch.randn(2, 8, 9, 9)
    expected = multiply(layer, x, layer.weight, layer.bias, BF16)
    found = multiply(layer, x.bfloat16(), layer.weight.bfloat16(), layer.bias, BF16)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_gradients_are_float32_and_near():
    torch.manual_seed(1)
    layer, x = nn.Conv2d(4, 4, 3), torch.randn(1, 4, 8, 8, requires_grad=True)
    expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight, layer.bias))
    loss = multiply(layer, x, layer.weight, layer.bias, BF16).square().sum()
    for one, other in zip(torch.autograd.grad(loss, (x, layer.weight, layer.bias)), expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * float(other.abs().max()))


@pytest.mark.parametrize('fast', [True, False])
@pytest.mark.parametrize('asked, on_fast, on_slow', [
    ('float32', None, None), ('bfloat16', BF16, BF16), ('auto', BF16, None)
])  # fmt: skip
def test_which_precision_is_used(monkeypatch, fast, asked, on_fast, on_slow):
    monkeypatch.setattr(matmul, 'has_fast_bfloat16', lambda device: fast)
    dtype = matmul_dtype(asked, torch.device('cpu'))
    assert asked in PRECISIONS and dtype == (on_fast if fast else on_slow)
    layer, x = nn.Linear(50, 1), torch.rand(1, 50, generator=torch.Generator().manual_seed(3))
    exact = torch.equal(multiply(layer, x, layer.weight, layer.bias, dtype), torch.addmm(layer.bias, x, layer.weight.T))
    assert exact == (dtype is None)


def test_hardware_is_asked_without_failing():
    assert matmul.has_fast_bfloat16(torch.device('cpu')) in (True, False)
    assert matmul.has_fast_bfloat16(torch.device('meta')) is False


def test_without_a_precision_results_are_exact():
    torch.manual_seed(4)
    conv, linear, x = nn.Conv2d(4, 8, 3, padding=1), nn.Linear(6, 3), torch.randn(2, 4, 6, 6)
    assert torch.equal(multiply(conv, x, conv.weight, conv.bias), F.conv2d(x, conv.weight, conv.bias, padding=1))
    assert torch.equal(multiply(linear, x, linear.weight, linear.bias), F.linear(x, linear.weight, linear.bias))


@pytest.mark.parametrize('layer', [
    nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2),
    nn.Conv2d(4, 6, 3, padding=1, padding_mode='reflect'),
    nn.Conv2d(4, 6, (3, 5), padding='same'),
    nn.Linear(9, 3),
])  # fmt: skip
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_geometry_is_the_layers(layer, dtype):
    layer, x = layer.to(dtype), torch.randn(2, 4, 11, 9, generator=torch.Generator().manual_seed(5)).to(dtype)
    found = multiply(layer, x, layer.weight, layer.bias)
    assert found.dtype == dtype and torch.equal(found, layer(x))
