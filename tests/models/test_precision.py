"""Products in bfloat16: near float32, exact on small integers, and nothing else touched."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynq_basicsr.models import precision
from dynq_basicsr.models.precision import Products, products_in


def integers(*shape, low, high, seed):
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_integers_are_exact_as_long_as_the_result_is():
    """8-bit integers times 2-bit integers; the sums stay below 256, which bfloat16 holds exactly."""
    x, weight = integers(2, 2, 6, 6, low=0, high=8, seed=0), integers(3, 2, 3, 3, low=-1, high=2, seed=1)
    with Products(torch.bfloat16):
        assert torch.equal(F.conv2d(x, weight, padding=1), torch.conv2d(x.double(), weight.double(), padding=1).float())
        assert torch.equal(F.linear(x[0, 0], weight[0, 0, :1].repeat(1, 2)), x[0, 0] @ weight[0, 0, :1].repeat(1, 2).T)


def test_products_accumulate_in_float32():
    x, weight = torch.ones(1, 1000), torch.full((1, 1000), 1.0)
    with Products(torch.bfloat16):
        assert F.linear(x, weight).item() == 1000  # bfloat16 alone would stop at 256


@pytest.mark.parametrize('layer, shape', [(nn.Conv2d(8, 8, 3, padding=1), (2, 8, 9, 9)), (nn.Linear(8, 5), (3, 8))])
def test_results_are_float32_and_near(layer, shape):
    torch.manual_seed(0)
    x = torch.randn(shape, requires_grad=True)
    expected = layer(x)
    with Products(torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    assert not torch.equal(found, expected)


def test_gradients_are_float32_and_near():
    torch.manual_seed(1)
    layer, x = nn.Conv2d(4, 4, 3), torch.randn(1, 4, 8, 8, requires_grad=True)
    expected = torch.autograd.grad(layer(x).square().sum(), (x, layer.weight, layer.bias))
    with Products(torch.bfloat16):
        loss = layer(x).square().sum()
    for one, other in zip(torch.autograd.grad(loss, (x, layer.weight, layer.bias)), expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * float(other.abs().max()))


def test_everything_else_stays_exact():
    x = torch.randn(2, 4, 5, 5, generator=torch.Generator().manual_seed(2))
    norm = nn.BatchNorm2d(4).eval()
    expected = norm(x) + x.square() / 3
    with Products(torch.bfloat16):
        assert torch.equal(norm(x) + x.square() / 3, expected)


@pytest.mark.parametrize('fast', [True, False])
@pytest.mark.parametrize('asked, on_fast, on_slow', [
    ('float32', False, False), ('bfloat16', True, True), ('auto', True, False)
])  # fmt: skip
def test_which_precision_is_used(monkeypatch, fast, asked, on_fast, on_slow):
    monkeypatch.setattr(precision, 'has_fast_bfloat16', lambda device: fast)
    layer, x = nn.Linear(50, 1), torch.rand(1, 50, generator=torch.Generator().manual_seed(3))
    with products_in(asked, torch.device('cpu')):
        changed = not torch.equal(layer(x), torch.addmm(layer.bias, x, layer.weight.T))
    exact = torch.equal(layer(x), torch.addmm(layer.bias, x, layer.weight.T))
    assert exact and changed == (on_fast if fast else on_slow)


def test_hardware_is_asked_without_failing():
    assert precision.has_fast_bfloat16(torch.device('cpu')) in (True, False)
    assert precision.has_fast_bfloat16(torch.device('meta')) is False


def test_without_a_precision_results_are_exact():
    torch.manual_seed(4)
    conv, linear, x = nn.Conv2d(4, 8, 3, padding=1), nn.Linear(6, 3), torch.randn(2, 4, 6, 6)
    with Products():
        assert torch.equal(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1))
        assert torch.equal(linear(x), F.linear(x, linear.weight, linear.bias))
