"""Checkpoints of quantized networks come back whole, or are refused by the option that differs."""

import pytest
import torch
from basicsr.archs import build_network

from dynq_basicsr.backbones.checkpoints import EXTRA_STATE, load_weights
from dynq_basicsr.errors import DynqError


def equal(net, weights):
    return all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())


def test_a_quantized_checkpoint_comes_back_whole(tmp_path, quantized_edsr):
    net, other = quantized_edsr(), quantized_edsr()
    with torch.no_grad():
        for index, parameter in enumerate(net.parameters()):
            parameter.add_(index / 100)
    net.calibrated = True
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    load_weights(other, tmp_path / 'net.pth')
    assert equal(other, net.state_dict()) and other.calibrated is True


def test_a_quantized_checkpoint_needs_a_quantized_network(tmp_path, edsr, quantized_edsr):
    torch.save({'params': quantized_edsr().state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='a quantized checkpoint, but network_g is EDSR; use type QuantizedSR'):
        load_weights(edsr(), tmp_path / 'net.pth')


def test_a_float_checkpoint_leaves_quantizers_alone(tmp_path, quantized_edsr, weights):
    torch.save(weights, tmp_path / 'net.pth')
    net = quantized_edsr()
    with torch.no_grad():
        net.policy.thresholds.fill_(33)
        net.quant_layers()[0].activation_range.set(-5, 6)
    load_weights(net, tmp_path / 'net.pth')
    assert equal(net.backbone, weights)
    assert (net.policy.thresholds == 33).all() and net.quant_layers()[0].activation_range.upper.item() == pytest.approx(
        6
    )


@pytest.mark.parametrize('key', [EXTRA_STATE, 'policy.thresholds', 'backbone.body.0.conv1.weight_range.log_upper'])
def test_a_quantized_checkpoint_with_a_hole_is_refused(tmp_path, quantized_edsr, key):
    state = quantized_edsr().state_dict()
    del state[key]
    torch.save({'params': state}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match=f'1 missing .{key}'):
        load_weights(quantized_edsr(), tmp_path / 'net.pth')


def test_another_granularity_is_refused(tmp_path, quantized_edsr):
    torch.save({'params': quantized_edsr().state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='of another shape'):
        load_weights(quantized_edsr(weight={'bits': 4, 'granularity': 'channel'}), tmp_path / 'net.pth')


def test_other_layers_are_refused(tmp_path, quantized_edsr):
    torch.save({'params': quantized_edsr().state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='missing|left over'):
        load_weights(quantized_edsr(layers=['re:.*conv1']), tmp_path / 'net.pth')


@pytest.mark.parametrize('options, named', [
    ({'weight': {'bits': 8}}, r'quantization\.weight\.bits = 4, network_g asks for 8'),
    ({'activation': {'bits': 6}}, r'quantization\.activation\.bits = 4, network_g asks for 6'),
    ({'activation': {'bits': 4, 'bits_range': [3, 8]}}, r'quantization\.activation\.bits_range'),
    ({'weight': {'bits': 4, 'grid': 'literal'}}, r'quantization\.weight\.grid'),
    ({'scope': 'full'}, None),
    ({'backbone': {'res_scale': 0.1}}, None),
    ({'policy': {'type': 'AdaBM', 'layer_to_bit': False}}, None),
])  # fmt: skip
def test_a_quantized_checkpoint_of_other_options_is_refused(tmp_path, quantized_edsr, options, named):
    net = quantized_edsr(backbone={'res_scale': 1}, policy={'type': 'AdaBM', 'layer_to_bit': True})
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match=named or 'was made with'):
        load_weights(quantized_edsr(**options), tmp_path / 'net.pth')


def test_a_checkpoint_older_than_the_scope_is_of_scope_body(tmp_path, quantized_edsr):
    net = quantized_edsr()
    assert net.description['quantization'].pop('scope') == 'body'
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    load_weights(quantized_edsr(), tmp_path / 'net.pth')
    with pytest.raises(DynqError, match=r"quantization\.scope = 'body', network_g asks for 'full'"):
        load_weights(quantized_edsr(scope='full'), tmp_path / 'net.pth')


def test_lists_and_tuples_are_the_same_option(tmp_path, quantized_edsr):
    def build(pair):
        return quantized_edsr(
            activation={'bits': 4, 'bits_range': pair}, policy={'type': 'AdaBM', 'image_factors': pair}
        )

    net = build((2, 7))
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    load_weights(build([2, 7]), tmp_path / 'net.pth')


def test_defaults_may_be_said_or_not(tmp_path, quantized_edsr):
    net = quantized_edsr()
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    policy = {'type': 'AdaBM', 'image_to_bit': True, 'layer_percentile': 30}
    load_weights(quantized_edsr(weight={'bits': 4, 'granularity': 'tensor'}, policy=policy), tmp_path / 'net.pth')


@pytest.mark.parametrize('options', [
    {'backbone': {'res_scale': 0.5}},
    {'policy': {'type': 'AdaBM', 'image_factors': [-2, 0, 2]}},
    {'policy': {'type': 'AdaBM', 'image_to_bit': False}},
])  # fmt: skip
def test_an_option_left_out_is_its_default(tmp_path, quantized_edsr, options):
    net = quantized_edsr(**options)
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='was made with'):
        load_weights(quantized_edsr(), tmp_path / 'net.pth')


def test_a_float_network_with_a_part_called_backbone(tmp_path):
    def build(seed):
        torch.manual_seed(seed)
        return build_network({'type': 'ECBSR', 'num_in_ch': 1, 'num_out_ch': 1, 'num_block': 1, 'num_channel': 4,
                              'with_idt': False, 'act_type': 'prelu', 'scale': 2})  # fmt: skip

    ours, theirs = build(0), build(1)
    assert any(key.startswith('backbone.') for key in theirs.state_dict())
    torch.save({'params': theirs.state_dict()}, tmp_path / 'net.pth')
    load_weights(ours, tmp_path / 'net.pth')
    assert all(torch.equal(one, other) for one, other in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_thresholds_of_complexities_that_descend_are_refused(tmp_path, quantized_edsr):
    net, path = quantized_edsr(policy={'type': 'AdaBM'}), tmp_path / 'net.pth'
    with torch.no_grad():
        net.policy.thresholds.copy_(net.policy.thresholds.flip(0) + 3)
    torch.save({'params': net.state_dict()}, path)
    with pytest.raises(DynqError, match=r'net\.pth: the thresholds of its policy do not ascend'):
        load_weights(quantized_edsr(policy={'type': 'AdaBM'}), path)
    net.policy.settle()  # as training does after each step
    torch.save({'params': net.state_dict()}, path)
    load_weights(quantized_edsr(policy={'type': 'AdaBM'}), path)


@pytest.mark.parametrize('key, change', [
    ('entropies', lambda values: values.flip(0)), ('quantiles', lambda values: values.flip(0)),
    ('quantiles', lambda values: values - 1), ('quantiles', lambda values: values + 0.5),
])  # fmt: skip
def test_policies_whose_values_contradict_each_other_are_refused(tmp_path, quantized_edsr, key, change):
    policy = {'type': 'GranularDQ', 'granularity_bits': [4, 6, 8], 'entropy_bits': [4, 5, 8]}
    net, path = quantized_edsr(policy=policy), tmp_path / 'net.pth'
    net.policy.set_distribution(torch.linspace(0.5, 3, 50))
    torch.save({'params': net.state_dict()}, path)
    load_weights(quantized_edsr(policy=policy), path)
    getattr(net.policy, key).copy_(change(getattr(net.policy, key)))
    torch.save({'params': net.state_dict()}, path)
    with pytest.raises(DynqError, match=r'net\.pth: the entropies or quantiles of its policy do not ascend'):
        load_weights(quantized_edsr(policy=policy), path)


def test_entropies_that_are_not_finite_are_refused(tmp_path, quantized_edsr):
    net = quantized_edsr(policy={'type': 'GranularDQ', 'granularity_bits': [4, 6, 8], 'entropy_bits': [4, 5, 8]})
    torch.save({'params': net.state_dict()}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match=r'policy\.entropies holds NaN'):
        load_weights(net, tmp_path / 'net.pth')
