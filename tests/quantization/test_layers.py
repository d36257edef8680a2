"""Quantized layers: the float layer bit for bit, or the two quantizers around its product."""

import copy
from contextlib import contextmanager

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.numerics.matmul import multiply
from dynq_basicsr.quantization.grids import literal_grid, weight_grid
from dynq_basicsr.quantization.layers import QuantConv2d, QuantLinear, fold, quantize_layer
from dynq_basicsr.quantization.run import Mode, RunHolder

LAYERS = {
    'plain': (lambda: nn.Conv2d(4, 6, 3, padding=1), (2, 4, 7, 6)),
    'strided, grouped, no bias': (lambda: nn.Conv2d(4, 6, 3, stride=2, groups=2, bias=False), (2, 4, 9, 8)),
    'reflected border': (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode='reflect'), (2, 4, 7, 6)),
    'dilated': (lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2), (2, 4, 7, 6)),
    'linear': (lambda: nn.Linear(5, 3), (2, 7, 5)),
    'linear, no bias': (lambda: nn.Linear(5, 3, bias=False), (2, 5)),
}


def build(kind, weight=None, activation=None, index=3):
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = make()
    options = QuantizationOptions.from_dict({'weight': weight or {'bits': 4}, 'activation': activation or {'bits': 4}})
    quantize_layer(layer, 'some.layer', index, options, RunHolder())
    layer.weight_range.set(torch.tensor(0.3))
    layer.activation_range.set(-1.5, 1.2)
    return layer, torch.randn(shape)


def fake_weight(weight, upper, bits, grid='integer'):
    """A weight with one bound, quantized by itself."""
    upper = upper.detach().view(1)
    if grid == 'literal':
        return fake_quantize(weight + upper, literal_grid(-upper, upper, bits)) - upper
    return fake_quantize(weight, weight_grid(upper, bits))


def fake_input(layer, x, bits):
    return layer.activation_range.quantize(x, layer.activation_range.grid(torch.as_tensor(bits).float().view(-1)))


def ask_nobody(index, x):
    raise AssertionError('its bits are known')


@pytest.mark.parametrize('kind', ['weight', 'activation'])
def test_what_is_not_quantized_learns_no_range(kind):
    layer = nn.Conv2d(2, 2, 3)
    quantize_layer(layer, 'layer', None, QuantizationOptions.from_dict({kind: {'bits': 4}}), RunHolder())
    learning = {name.split('.')[0] for name, one in layer.named_parameters() if one.requires_grad}
    assert learning == {'weight', 'bias', f'{kind}_range'}


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('gradient', [True, False])
def test_outside_of_a_run_and_in_float_it_is_the_float_layer_bit_for_bit(kind, gradient, running):
    torch.manual_seed(0)
    float_layer = LAYERS[kind][0]()
    layer, x = build(kind)
    layer.load_state_dict(float_layer.state_dict(), strict=False)
    with torch.set_grad_enabled(gradient):
        expected = float_layer(x)
        assert torch.equal(layer(x), expected)
        with running(layer, 4, Mode.FLOAT):
            assert torch.equal(layer(x), expected)
        with running(layer, 4):
            assert not torch.equal(layer(x), expected)
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('grid', ['integer', 'literal'])
def test_switched_on_it_is_the_product_of_both_quantized(kind, grid, running):
    layer, x = build(kind, {'bits': 3, 'grid': grid}, {'bits': 5, 'grid': grid})
    bits = torch.tensor([4.0, 6.0])
    with running(layer, bits):
        result = layer(x)
    quantized_x = fake_input(layer, x, bits)
    weight = fake_weight(layer.weight, layer.weight_range.upper, 3, grid)
    if isinstance(layer, nn.Linear):
        expected = F.linear(quantized_x, weight, layer.bias)
    else:
        padding = layer.padding
        if layer.padding_mode == 'reflect':
            quantized_x, padding = F.pad(quantized_x, (1, 1, 1, 1), mode='reflect'), 0
        expected = F.conv2d(quantized_x, weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    # what is exact is the same but for the rounding of sums, gradients recorded or not
    with running(layer, bits, Mode.EXACT), torch.no_grad():
        torch.testing.assert_close(layer(x), expected.detach(), rtol=1e-5, atol=1e-5)


def test_conversion_is_in_place_and_keeps_parameters_and_hooks():
    layer = nn.Conv2d(3, 4, 3)
    calls = []
    layer.register_forward_hook(lambda *_: calls.append(1))
    before = {name: (id(p), p.clone()) for name, p in layer.named_parameters()}
    quantize_layer(layer, 'conv', 0, QuantizationOptions.from_dict({'weight': {'bits': 4}}), RunHolder())
    assert type(layer) is QuantConv2d
    assert all((id(p), True) == (before[name][0], torch.equal(p, before[name][1]))
               for name, p in layer.named_parameters() if name in before)  # fmt: skip
    assert set(layer.state_dict()) == {
        'weight', 'bias', 'activation_range.log_lower', 'activation_range.log_upper', 'weight_range.log_upper'
    }  # fmt: skip
    layer(torch.zeros(1, 3, 5, 5))
    assert calls == [1]


@pytest.mark.parametrize('mode', [Mode.TRAINING, Mode.EXACT])
def test_a_decision_by_layer_gets_index_and_input_and_is_heeded(mode, running):
    layer, x = build('linear')
    asked, bits = [], torch.tensor([3.0, 8.0])
    with running(layer, mode=mode) as run, torch.no_grad():
        run.decide = lambda index, given: asked.append((index, given)) or bits
        result = layer(x)
        assert run.bits[3] is bits
    assert len(asked) == 1 and asked[0][0] == 3 and asked[0][1] is x
    with running(layer, bits, mode), torch.no_grad():
        assert torch.equal(result, layer(x))


def test_a_layer_that_runs_twice_decides_twice(running):
    layer, x = build('plain')
    asked = []
    with running(layer) as run:
        run.decide = lambda index, given: asked.append(given) or torch.full((len(given),), 3.0 + len(asked))
        first, second = layer(x), layer(2 * x)
    with running(layer, 4):
        assert torch.equal(first, layer(x))
    with running(layer, 5):
        assert torch.equal(second, layer(2 * x)) and len(asked) == 2


def test_a_static_layer_asks_nobody_and_uses_its_own_bits(running):
    layer, x = build('plain', {'bits': 3}, {'bits': 5}, index=None)
    with running(layer, layer.options.activation.bits) as run:
        run.decide = ask_nobody
        result = layer(x)
    expected = F.conv2d(fake_input(layer, x, 5), layer.quantized_weight(), layer.bias, padding=1)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    with running(layer) as run:  # not even where no grid is known
        run.decide = ask_nobody
        layer(x)


@pytest.mark.parametrize('mode', [Mode.TRAINING, Mode.EXACT])
def test_float_activations_stay_as_they_are(mode, running):
    layer, x = build('plain', {'bits': 4}, {'bits': 32})
    with running(layer, mode=mode):
        result = layer(x)
    expected = F.conv2d(x, fake_weight(layer.weight, layer.weight_range.upper, 4), layer.bias, padding=1)
    assert torch.equal(result, expected)


@pytest.mark.parametrize('mode', [Mode.TRAINING, Mode.EXACT])
def test_float_weights_stay_as_they_are(mode, running):
    layer, x = build('plain', {'bits': 32}, {'bits': 4})
    assert layer.quantized_weight() is layer.weight
    with running(layer, 4, mode) as run:
        run.weights[0] = None  # as where nobody quantized it
        assert torch.equal(layer(x), F.conv2d(fake_input(layer, x, 4), layer.weight, layer.bias, padding=1))


@pytest.mark.parametrize('mode', [Mode.TRAINING, Mode.EXACT])
def test_zero_padding_is_exact_on_the_integer_grid(mode, running):
    layer, x = build('plain')
    x = torch.zeros_like(x)
    assert torch.equal(fake_input(layer, x, 4), x)
    with running(layer, 4, mode), torch.no_grad():
        assert torch.equal(layer(x), layer.bias.view(1, -1, 1, 1).expand(2, 6, 7, 6))


def test_per_channel_option_gives_one_bound_a_channel():
    layer, _ = build('plain', {'bits': 4, 'granularity': 'channel'})
    assert layer.weight_range.upper.shape == (6, 1, 1, 1)
    linear, _ = build('linear', {'bits': 4, 'granularity': 'channel'})
    assert linear.weight_range.upper.shape == (3, 1) and type(linear) is QuantLinear


@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_learned_rounding_moves_weights_before_they_are_rounded(granularity):
    layer, x = build('plain', weight={'bits': 3, 'rounding': 'learned', 'granularity': granularity})
    upper = layer.weight_range.upper.flatten()[0]
    before = layer.quantized_weight().detach()
    assert torch.equal(layer.weight_range.offset, torch.zeros_like(layer.weight))
    torch.testing.assert_close(before, fake_weight(layer.weight.detach(), upper, 3))
    with torch.no_grad():
        layer.weight_range.offset.fill_(0.25)  # of a quarter of the bound, the unit at 3 bits
    moved = layer.weight + 0.25 * 0.3 / 4
    torch.testing.assert_close(layer.weight_range.with_offset(layer.weight), moved)
    torch.testing.assert_close(layer.quantized_weight(), fake_weight(moved, upper, 3))
    assert not torch.equal(layer.quantized_weight(), before)
    integers, scale, _ = layer.integer_weight()
    torch.testing.assert_close(integers * scale.view(-1, 1, 1, 1), layer.quantized_weight())
    assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))


def test_offsets_learn_by_straight_through_and_begin_anew_with_the_range():
    layer, _ = build('plain', weight={'bits': 4, 'rounding': 'learned'})
    with torch.no_grad():
        layer.weight.clamp_(-0.2, 0.2)
        layer.weight_range.offset.fill_(0.1)
    wanted = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1))
    (layer.quantized_weight() * wanted).sum().backward()
    torch.testing.assert_close(layer.weight_range.offset.grad, wanted * 0.3 / 8)
    layer.weight_range.set(torch.tensor(0.5))
    assert not layer.weight_range.offset.any()


# -- exact sums ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('granularity', ['tensor', 'channel'])
def test_sums_are_exact(kind, granularity, running):
    layer, x = build(kind, {'bits': 4, 'granularity': granularity}, {'bits': 6})
    bits = torch.tensor([4.0, 7.0])
    with running(layer, bits, Mode.EXACT), torch.no_grad():
        result = layer(x)
        scale, low, high = layer.activation_range.grid(bits)
    weight, weight_scale, bias = layer.integer_weight()
    assert bias is layer.bias and weight_scale.shape == (len(weight),)
    assert torch.equal(weight, weight.round()) and -8 <= weight.min() and weight.max() <= 7
    by_channel = (-1, 1, 1) if isinstance(layer, nn.Conv2d) else (-1,)
    for sample in range(2):
        integers = x[sample : sample + 1].div(scale[sample]).round().clamp(low[sample], high[sample])
        sums = multiply(layer, integers.double(), weight.double(), None).float()
        expected = sums * (scale[sample] * weight_scale).view(by_channel)
        expected = expected if bias is None else expected + bias.view(by_channel)
        assert torch.equal(result[sample : sample + 1], expected)


def test_the_order_of_summation_is_of_no_account(running):
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 32, 3, padding=1)
    options = QuantizationOptions.from_dict({'weight': {'bits': 8}, 'activation': {'bits': 8}})
    quantize_layer(layer, 'some.layer', None, options, RunHolder())
    layer.weight_range.set(layer.weight.detach().abs().max())
    layer.activation_range.set(-2, 3)
    x = torch.randn(3, 64, 33, 29)
    with running(layer, 8, Mode.EXACT), torch.no_grad():
        expected = layer(x)
        assert torch.equal(layer(x.contiguous(memory_format=torch.channels_last)), expected)
        assert torch.equal(torch.cat([layer(one[None]) for one in x]), expected)
        order = torch.randperm(64)
        layer.weight.copy_(layer.weight[:, order])
        assert torch.equal(layer(x[:, order]), expected)
    with running(layer, 8):
        with_gradient = layer(x[:, order])
    assert with_gradient.requires_grad
    torch.testing.assert_close(with_gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('mode', [Mode.TRAINING, Mode.EXACT])
@pytest.mark.parametrize('kind', ['plain', 'linear'])
def test_windows_that_lie_on_the_sample_axis_get_the_bits_of_their_sample(kind, mode, running):
    layer, x = build(kind)
    windows = torch.cat([x, 2 * x, 3 * x])
    bits = torch.tensor([3.0, 8.0])
    with running(layer, bits, mode), torch.no_grad():
        together = layer(windows)
    for index, part in enumerate(windows.split(3)):
        with running(layer, bits[index], mode), torch.no_grad():
            torch.testing.assert_close(layer(part), together[3 * index : 3 * index + 3], rtol=1e-6, atol=1e-6)


# -- batch normalization ---------------------------------------------------------------------------------------------


def build_with_norm(**options):
    """A quantized convolution and the batch normalization behind it, with statistics, in eval mode."""
    layer, x = build('plain', **options)
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            tensor.uniform_(-2, 2)
        norm.running_var.uniform_(0.1, 3)
    return layer, norm.eval(), x


@contextmanager
def training(module):
    module.train()
    yield
    module.eval()


def test_a_batch_norm_becomes_part_of_scale_and_bias_where_sums_are_exact(running):
    layer, norm, x = build_with_norm()
    keys = [*layer.state_dict(), *norm.state_dict()]
    with running(layer, 4):
        expected = norm(layer(x))
    float_result = norm(layer(x))
    fold(layer, norm)
    assert layer.folds and torch.equal(norm(layer(x)), float_result)  # outside of a run
    with running(layer, 4):
        assert torch.equal(norm(layer(x)), expected)
    with running(layer, 4, Mode.FLOAT):
        assert torch.equal(norm(layer(x)), float_result)
    with running(layer, 4, Mode.EXACT), torch.no_grad():
        result = layer(x)
        assert norm(result) is result
        torch.testing.assert_close(result, expected.detach(), rtol=1e-5, atol=1e-5)
        with training(norm):
            assert not layer.folds and not torch.equal(layer(x), result)
            assert torch.equal(norm(layer(x)), F.batch_norm(
                layer(x), None, None, norm.weight, norm.bias, training=True, eps=norm.eps,
            ))  # fmt: skip
    assert [*layer.state_dict(), *norm.state_dict()] == keys


@pytest.mark.parametrize('options', [
    {'weight': {'bits': 32}}, {'activation': {'bits': 32}}, {'weight': {'bits': 4, 'grid': 'literal'}},
    {'activation': {'bits': 4, 'grid': 'literal'}},
])  # fmt: skip
def test_a_layer_that_multiplies_no_integers_folds_nothing(options, running):
    layer, norm, x = build_with_norm(**options)
    fold(layer, norm)
    assert not layer.integer and not layer.folds
    bits = None if layer.options.activation.bits == 32 else 4
    with running(layer, bits, Mode.EXACT), torch.no_grad():
        assert torch.equal(norm(layer(x)), F.batch_norm(
            layer(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps,
        ))  # fmt: skip


def test_a_batch_norm_without_parameters_folds_too(running):
    layer, _, x = build_with_norm()
    norm = nn.BatchNorm2d(6, affine=False).eval()
    norm.running_mean.uniform_(-2, 2)
    fold(layer, norm)
    with running(layer, 4):
        expected = norm(layer(x)).detach()
    with running(layer, 4, Mode.EXACT), torch.no_grad():
        result = layer(x)
        assert norm(result) is result
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)


def test_copies_fold_their_own():
    layer, norm, _ = build_with_norm()
    fold(layer, norm)
    other, other_norm = copy.deepcopy(nn.Sequential(layer, norm))
    assert other.norm == (other_norm,) and other_norm.layer == (other,) and other is not layer
    assert other.holder is not layer.holder


# -- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('half', [torch.float16, torch.bfloat16])
def test_half_precision_multiplies_fake_quantized_operands(half, running):
    """Sums of integers would leave the range of float16."""
    layer, norm, x = build_with_norm(weight={'bits': 8}, activation={'bits': 8})
    fold(layer, norm)
    with torch.no_grad():
        with running(layer, 8, Mode.EXACT):
            expected = norm(layer(x))
        with running(layer, 8), torch.autocast('cpu', half):
            result = norm(layer(x))
            assert result.dtype == half
            torch.testing.assert_close(result.float(), expected, rtol=0.1, atol=0.1)
        layer.to(half), norm.to(half)
        assert not layer.integer and not layer.folds
        for mode in (Mode.EXACT, Mode.TRAINING):
            with running(layer, 8, mode):
                result = norm(layer(x.to(half)))
            assert result.dtype == half
            torch.testing.assert_close(result.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize('kind', LAYERS)
@pytest.mark.parametrize('mode', [Mode.FLOAT, Mode.TRAINING])
def test_operands_are_cast_as_the_run_says_and_results_are_float32(kind, mode, running):
    layer, x = build(kind)
    with running(layer, 4, mode):
        expected = layer(x)
    with running(layer, 4, mode, torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.float32 and found.requires_grad and not torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
