"""Quantized layers: the float layer bit for bit, or the two quantizers around its product."""

import copy
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynq_basicsr.models.precision import Products
from dynq_basicsr.quantization.context import BitContext
from dynq_basicsr.quantization.fake_quantize import fake_quantize_activation, fake_quantize_weight
from dynq_basicsr.quantization.layers import QuantConv2d, QuantLinear, fold, make_precise, quantize_layer
from dynq_basicsr.quantization.options import QuantizationOptions

LAYERS = {
    'plain': (lambda: nn.Conv2d(4, 6, 3, padding=1), (2, 4, 7, 6)),
    'strided, grouped, no bias': (lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), (2, 4, 9, 8)),
    'reflected border': (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode='reflect'), (2, 4, 7, 6)),
    'dilated': (lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2), (2, 4, 7, 6)),
    'linear': (lambda: nn.Linear(5, 3), (2, 7, 5)),
    'linear, no bias': (lambda: nn.Linear(5, 3, bias=False), (2, 5)),
}


def build(kind, weight=None, activation=None):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer, context = make(), BitContext()
    options = QuantizationOptions.from_dict({'weight': weight or {'bits': 4}, 'activation': activation or {'bits': 4}})
    quantize_layer(layer, 'some.layer', 3, options, context)
    layer.weight_range.set(torch.tensor(0.3))
    layer.activation_range.set(-1.5, 1.2)
    return layer, context, torch.randn(shape)


@pytest.mark.parametrize('kind', ['weight', 'activation'])
def test_what_is_not_quantized_learns_no_range(kind):
    layer = nn.Conv2d(2, 2, 3)
    quantize_layer(layer, 'layer', None, QuantizationOptions.from_dict({kind: {'bits': 4}}), BitContext())
    learning = {name.split('.')[0] for name, one in layer.named_parameters() if one.requires_grad}
    assert learning == {'weight', 'bias', f'{kind}_range'}


@pytest.mark.parametrize('kind', LAYERS)
def test_switched_off_it_is_the_float_layer_bit_for_bit(kind):
    torch.manual_seed(0)
    float_layer = LAYERS[kind][0]()
    layer, context, x = build(kind)
    layer.load_state_dict(float_layer.state_dict(), strict=False)
    with context.floating():
        assert torch.equal(layer(x), float_layer(x))


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('grid', ['integer', 'literal'])
def test_switched_on_it_is_the_product_of_both_quantized(kind, grid):
    layer, context, x = build(kind, {'bits': 3, 'grid': grid}, {'bits': 5, 'grid': grid})
    bits = torch.tensor([4.0, 6.0])
    with context.deciding(lambda index, given: bits):
        result = layer(x)
    quantized_x = fake_quantize_activation(x, torch.tensor(-1.5), torch.tensor(1.2), bits, grid)
    weight = fake_quantize_weight(layer.weight, layer.weight_range.upper, 3, grid)
    if isinstance(layer, nn.Linear):
        expected = F.linear(quantized_x, weight, layer.bias)
    else:
        padding = layer.padding
        if layer.padding_mode == 'reflect':
            quantized_x, padding = F.pad(quantized_x, (1, 1, 1, 1), mode='reflect'), 0
        expected = F.conv2d(quantized_x, weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_conversion_is_in_place_and_keeps_parameters_and_hooks():
    layer = nn.Conv2d(3, 4, 3)
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    before = {name: (id(p), p.clone()) for name, p in layer.named_parameters()}
    quantize_layer(layer, 'conv', 0, QuantizationOptions.from_dict({'weight': {'bits': 4}}), BitContext())
    assert type(layer) is QuantConv2d
    assert all((id(p), True) == (before[name][0], torch.equal(p, before[name][1]))
               for name, p in layer.named_parameters() if name in before)  # fmt: skip
    assert set(layer.state_dict()) == {
        'weight', 'bias', 'activation_range.log_lower', 'activation_range.log_upper', 'weight_range.log_upper'
    }  # fmt: skip
    with layer.context.floating():
        layer(torch.zeros(1, 3, 5, 5))
    assert calls == [1]


def test_the_decision_gets_index_and_input_and_the_trace_gets_the_answer():
    layer, context, x = build('linear')
    asked = []

    def decide(index, given):
        asked.append((index, given))
        return torch.tensor([3.0, 8.0])

    with context.deciding(decide), context.tracing() as trace:
        layer(x)
    assert asked[0][0] == 3 and asked[0][1] is x
    assert list(trace.bits) == ['some.layer'] and trace.bits['some.layer'].tolist() == [3, 8]


def test_a_static_layer_asks_nobody_and_uses_its_own_bits():
    layer, context, x = build('plain', {'bits': 3}, {'bits': 5})
    layer.index = None
    with context.tracing() as trace:
        result = layer(x)
    quantized = fake_quantize_activation(x, torch.tensor(-1.5), torch.tensor(1.2), 5)
    expected = F.conv2d(quantized, layer.quantized_weight(), layer.bias, padding=1)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert trace.bits == {} and trace.static == {'some.layer': 5}


def test_float_activations_ask_nobody():
    layer, context, x = build('plain', {'bits': 4}, {'bits': 32})
    with context.tracing() as trace:
        result = layer(x)
    expected = F.conv2d(x, fake_quantize_weight(layer.weight, layer.weight_range.upper, 4), layer.bias, padding=1)
    assert torch.equal(result, expected) and trace.bits == {'some.layer': 32}


def test_float_weights_stay_as_they_are():
    layer, context, _ = build('plain', {'bits': 32}, {'bits': 4})
    assert layer.quantized_weight() is layer.weight


def test_zero_padding_is_exact_on_the_integer_grid():
    layer, context, x = build('plain')
    with context.deciding(lambda index, given: 4.0):
        assert torch.equal(layer.quantized_input(torch.zeros_like(x)), torch.zeros_like(x))


def test_per_channel_option_gives_one_bound_a_channel():
    layer, _, _ = build('plain', {'bits': 4, 'granularity': 'channel'})
    assert layer.weight_range.upper.shape == (6, 1, 1, 1)
    linear, _, _ = build('linear', {'bits': 4, 'granularity': 'channel'})
    assert linear.weight_range.upper.shape == (3, 1) and type(linear) is QuantLinear


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_learned_rounding_moves_weights_before_they_are_rounded(granularity):
    layer, context, x = build('plain', weight={'bits': 3, 'rounding': 'learned', 'granularity': granularity})
    before = layer.quantized_weight().detach()
    assert torch.equal(layer.weight_range.offset, torch.zeros_like(layer.weight))
    torch.testing.assert_close(before, fake_quantize_weight(layer.weight, layer.weight_range.upper, 3))
    with torch.no_grad():
        layer.weight_range.offset.fill_(0.25)  # of a quarter of the bound, the unit at 3 bits
    moved = layer.weight + 0.25 * 0.3 / 4
    torch.testing.assert_close(layer.quantized_weight(), fake_quantize_weight(moved, layer.weight_range.upper, 3))
    assert not torch.equal(layer.quantized_weight(), before)
    with context.floating():
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))


def test_offsets_learn_by_straight_through_and_begin_anew_with_the_range():
    layer, _, _ = build('plain', weight={'bits': 4, 'rounding': 'learned'})
    with torch.no_grad():
        layer.weight.clamp_(-0.2, 0.2)
        layer.weight_range.offset.fill_(0.1)
    wanted = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1))
    (layer.quantized_weight() * wanted).sum().backward()
    torch.testing.assert_close(layer.weight_range.offset.grad, wanted * 0.3 / 8)
    layer.weight_range.set(torch.tensor(0.5))
    assert not layer.weight_range.offset.any()


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_without_gradients_sums_are_exact(kind, granularity):
    layer, context, x = build(kind, {'bits': 4, 'granularity': granularity}, {'bits': 6})
    bits = torch.tensor([4.0, 7.0])
    with context.deciding(lambda index, given: bits), torch.no_grad():
        result = layer(x)
    scale, low, high = layer.activation_range.integer_grid(bits)
    weight, weight_scale, bias = layer.integer_weight()
    assert bias is layer.bias and weight_scale.shape == (len(weight),)
    assert torch.equal(weight, weight.round()) and -8 <= weight.min() and weight.max() <= 7
    for sample in range(2):
        integers = x[sample : sample + 1].div(scale[sample]).round().clamp(low[sample], high[sample])
        sums = layer._multiply(integers.double(), weight.double(), None).float()
        expected = sums * layer._by_channel(scale[sample] * weight_scale)
        expected = expected if bias is None else expected + layer._by_channel(bias)
        assert torch.equal(result[sample : sample + 1], expected)


def test_without_gradients_the_order_of_summation_is_of_no_account():
    torch.manual_seed(0)
    layer, context = nn.Conv2d(64, 32, 3, padding=1), BitContext()
    options = QuantizationOptions.from_dict({'weight': {'bits': 8}, 'activation': {'bits': 8}})
    quantize_layer(layer, 'some.layer', None, options, context)
    layer.weight_range.set(layer.weight.detach().abs().max())
    layer.activation_range.set(-2, 3)
    x = torch.randn(3, 64, 33, 29)
    with torch.no_grad():
        expected = layer(x)
        assert torch.equal(layer(x.contiguous(memory_format=torch.channels_last)), expected)
        assert torch.equal(torch.cat([layer(one[None]) for one in x]), expected)
        order = torch.randperm(64)
        layer.weight.copy_(layer.weight[:, order])
        assert torch.equal(layer(x[:, order]), expected)
    with_gradient = layer(x[:, order])
    assert with_gradient.requires_grad
    torch.testing.assert_close(with_gradient, expected, rtol=1e-5, atol=1e-5)


def build_with_norm(**options):
    """A quantized convolution and the batch normalization behind it, with statistics, in eval mode."""
    layer, context, x = build('plain', **options)
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.uniform_(-2, 2)
        norm.running_var.uniform_(0.1, 3)
    return layer, norm.eval(), context, x


def test_a_batch_norm_becomes_part_of_scale_and_bias():
    layer, norm, context, x = build_with_norm()
    keys = [*layer.state_dict(), *norm.state_dict()]
    with context.deciding(lambda index, given: 4.0):
        expected = norm(layer(x))
        fold(layer, norm)
        assert not layer.folds and torch.equal(norm(layer(x)), expected)  # a gradient is recorded
        with torch.no_grad():
            result = layer(x)
            assert layer.folds and norm(result) is result
            torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
            for mode in (context.floating(), training(norm)):
                with mode:
                    assert not layer.folds and norm(layer(x)) is not layer(x)
    assert [*layer.state_dict(), *norm.state_dict()] == keys


@contextmanager
def training(module):
    module.train()
    yield
    module.eval()


@pytest.mark.parametrize('options', [
    {'weight': {'bits': 32}}, {'activation': {'bits': 32}}, {'weight': {'bits': 4, 'grid': 'literal'}},
    {'activation': {'bits': 4, 'grid': 'literal'}},
])  # fmt: skip
def test_a_layer_that_multiplies_no_integers_folds_nothing(options):
    layer, norm, context, x = build_with_norm(**options)
    fold(layer, norm)
    with context.deciding(lambda index, given: 4.0), torch.no_grad():
        assert not layer.exact and not layer.folds
        assert torch.equal(norm(layer(x)), F.batch_norm(
            layer(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps,
        ))  # fmt: skip


def test_a_batch_norm_without_parameters_folds_too():
    layer, _, context, x = build_with_norm()
    norm = nn.BatchNorm2d(6, affine=False).eval()
    norm.running_mean.uniform_(-2, 2)
    fold(layer, norm)
    with context.deciding(lambda index, given: 4.0):
        expected = norm(layer(x)).detach()
        with torch.no_grad():
            torch.testing.assert_close(norm(layer(x)), expected, rtol=1e-5, atol=1e-5)


def test_copies_fold_their_own():
    layer, norm, context, x = build_with_norm()
    fold(layer, norm)
    other, other_norm = copy.deepcopy(nn.Sequential(layer, norm))
    assert other.norm == (other_norm,) and other_norm.layer == (other,) and other is not layer


def test_a_precise_convolution_sums_in_float64_where_sums_are_to_be_exact():
    torch.manual_seed(0)
    layer, context, x = nn.Conv2d(3, 8, 9, padding=4), BitContext(), torch.randn(2, 3, 12, 10)
    plain = copy.deepcopy(layer)
    make_precise(layer, 'head', context)
    assert layer.name == 'head' and torch.equal(layer(x), plain(x))  # a gradient is recorded
    with torch.no_grad():
        exact = copy.deepcopy(plain).double()(x.double()).float()
        assert torch.equal(layer(x), exact) and not torch.equal(exact, plain(x))
        with context.floating():
            assert torch.equal(layer(x), plain(x))


class Sum(nn.Module):
    def forward(self, x):
        return x.sum(dim=(1, 2, 3), keepdim=True).sigmoid()


def test_a_precise_module_computes_in_float64_where_sums_are_to_be_exact():
    module, context, x = Sum(), BitContext(), torch.randn(2, 3, 40, 30, generator=torch.Generator().manual_seed(1)) / 9
    make_precise(module, 'pool', context)
    plain, exact = Sum()(x), Sum()(x.double()).float()
    assert not torch.equal(plain, exact) and torch.equal(module(x), plain)  # a gradient is recorded
    with torch.no_grad():
        assert torch.equal(module(x), exact)
        copied = copy.deepcopy(module)
        for other in x.double(), x.half():
            assert torch.equal(module(other), Sum()(other)) and module(other).dtype == other.dtype
        with context.floating():
            assert torch.equal(module(x), plain) and torch.equal(copied(x), exact)  # it has a context of its own


def test_products_leave_a_precise_convolution_alone():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 8, 3), torch.randn(1, 3, 9, 8)
    make_precise(layer, 'head', BitContext())
    with torch.no_grad():
        expected = layer(x)
        with Products(torch.bfloat16):
            assert torch.equal(layer(x), expected)


@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_half_precision_multiplies_fake_quantized_operands(half):
    """Sums of integers would leave the range of float16."""
    layer, norm, context, x = build_with_norm(weight={'bits': 8}, activation={'bits': 8})
    fold(layer, norm)
    with context.deciding(lambda index, given: 8.0), torch.no_grad():
        expected = norm(layer(x))
        with torch.autocast('cpu', half):
            assert not layer.exact and not layer.folds
            torch.testing.assert_close(norm(layer(x)).float(), expected, rtol=0.1, atol=0.1)
        layer.to(half), norm.to(half)
        assert not layer.exact and not layer.folds
        torch.testing.assert_close(norm(layer(x.to(half))).float(), expected, rtol=0.1, atol=0.1)
