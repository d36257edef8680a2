"""Float layers of a quantized network: the plain layer, but for the precision of the run and exact sums."""

import copy
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from dynq_basicsr.quantization.float_layers import FloatConv2d, FloatLinear, adapt_float_module
from dynq_basicsr.quantization.run import Mode, Run, RunHolder

LAYERS = {
    'convolution': (lambda: nn.Conv2d(3, 8, 9, padding=4), (2, 3, 12, 10)),
    'strided convolution': (lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), (2, 4, 9, 8)),
    'linear': (lambda: nn.Linear(40, 7), (2, 5, 40)),
}


def build(kind, float64=False):
    """The plain layer, its twin, and an input."""
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    plain = make()
    layer = copy.deepcopy(plain)
    adapt_float_module(layer, 'head', RunHolder(), float64)
    return plain, layer, torch.randn(shape)


@contextmanager
def in_mode(module, mode, dtype=None):
    module.holder.run = Run(mode, dtype)
    yield
    module.holder.run = None


@pytest.mark.parametrize('kind', LAYERS)
def test_it_is_the_plain_layer_in_place(kind):
    plain, layer, x = build(kind)
    assert type(layer) is (FloatLinear if kind == 'linear' else FloatConv2d)
    assert layer.name == 'head' and set(layer.state_dict()) == set(plain.state_dict())
    assert torch.equal(layer(x), plain(x))
    for mode in Mode:
        with in_mode(layer, mode):
            assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('mode', [Mode.FLOAT, Mode.TRAINING])
def test_operands_are_cast_as_the_run_says_and_results_are_float32(kind, mode):
    plain, layer, x = build(kind)
    with in_mode(layer, mode, torch.bfloat16):
        found = layer(x)
    expected = plain(x)
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    assert torch.equal(found, plain.bfloat16()(x.bfloat16()).float())


def test_a_precise_convolution_sums_in_float64_where_sums_are_to_be_exact():
    plain, layer, x = build('convolution', float64=True)
    exact = copy.deepcopy(plain).double()(x.double()).float()
    assert not torch.equal(exact, plain(x))
    assert torch.equal(layer(x), plain(x))
    with in_mode(layer, Mode.EXACT), torch.no_grad():
        assert torch.equal(layer(x), exact)
    for mode in (Mode.TRAINING, Mode.FLOAT):
        for gradient in (True, False):
            with in_mode(layer, mode), torch.set_grad_enabled(gradient):
                assert torch.equal(layer(x), plain(x))


class Sum(nn.Module):
    def forward(self, x):
        return x.sum(dim=(1, 2, 3), keepdim=True).sigmoid()


def test_a_precise_module_computes_in_float64_where_sums_are_to_be_exact():
    module, x = Sum(), torch.randn(2, 3, 40, 30, generator=torch.Generator().manual_seed(1)) / 9
    adapt_float_module(module, 'pool', RunHolder(), float64=True)
    plain, exact = Sum()(x), Sum()(x.double()).float()
    assert isinstance(module, Sum) and module.name == 'pool'
    assert not torch.equal(plain, exact) and torch.equal(module(x), plain)
    with in_mode(module, Mode.EXACT):
        assert torch.equal(module(x), exact)
        copied = copy.deepcopy(module)
        for other in x.double(), x.half():
            assert torch.equal(module(other), Sum()(other)) and module(other).dtype == other.dtype
    for mode in (Mode.FLOAT, Mode.TRAINING):
        with in_mode(module, mode):
            assert torch.equal(module(x), plain) and torch.equal(copied(x), exact)  # it has a holder of its own


def test_modules_of_one_class_become_one_class():
    one, other = Sum(), Sum()
    for module in (one, other):
        adapt_float_module(module, 'pool', RunHolder(), float64=True)
    assert type(one) is type(other)


def test_no_precision_of_products_changes_a_precise_convolution():
    plain, layer, x = build('convolution', float64=True)
    exact = plain.double()(x.double()).float()
    with in_mode(layer, Mode.EXACT, torch.bfloat16), torch.no_grad():
        assert torch.equal(layer(x), exact)


def test_a_convolution_in_double_precision_stays_so():
    plain, layer, x = build('convolution', float64=True)
    plain, layer, x = plain.double(), layer.double(), x.double()
    with in_mode(layer, Mode.EXACT), torch.no_grad():
        assert torch.equal(layer(x), plain(x))


def test_in_another_precision_everything_but_products_stays_exact():
    plain, layer, x = build('convolution')
    norm = nn.BatchNorm2d(8).eval()
    with in_mode(layer, Mode.TRAINING, torch.bfloat16):
        feature = layer(x)
        found = norm(feature) + feature.square() / 3
    assert torch.equal(found, norm(feature) + feature.square() / 3) and found.dtype == torch.float32
