"""Which layers are quantized in either scope, against what a reader of the architectures would say."""

import re

import pytest
import torch
from torch import nn

from dynq_basicsr.archs.layer_plan import plan_layers
from dynq_basicsr.archs.probe import Probed
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.selection import feature_taps
from dynq_basicsr.training.calibration import Calibration

W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
FULL = {'weight': {'bits': 4}, 'activation': {'bits': 4}, 'scope': 'full'}
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}
RIDNET = {'type': 'RIDNet', 'in_channels': 3, 'mid_channels': 16, 'out_channels': 3, 'num_block': 1}
# the ends, and what adapts in scope full but not in scope body
OUTSIDE_THE_BLOCKS = {
    'EDSR': (['conv_first', 'upsample.0', 'upsample.2', 'conv_last'], ['conv_after_body']),
    'MSRResNet': (['conv_first', 'upconv1', 'conv_hr', 'conv_last'], []),
    'SRResNetBN': (['head', 'up.0', 'tail'], ['body_conv']),
    'RDN': (['SFENet1', 'SFENet2', 'UPNet.0', 'UPNet.2'], []),
    'IDN': (['conv1', 'conv2'], ['down1', 'down2', 'down3', 'down4']),
    'RCAN': (['conv_first', 'upsample.0', 'conv_last'], ['body.0.conv', 'body.1.conv', 'conv_after_body']),
    'RRDBNet': (['conv_first', 'conv_up1', 'conv_up2', 'conv_hr', 'conv_last'], ['conv_body']),
    'SwinIR': (['conv_first', 'upsample.0'], ['layers.0.conv', 'layers.1.conv', 'conv_after_body']),
    'HAT': (['conv_first', 'conv_before_upsample.0', 'upsample.0', 'conv_last'],
            ['layers.0.conv', 'layers.1.conv', 'conv_after_body']),
    'SRVGGNetCompact': (['body.0', 'body.10'], []),
}  # fmt: skip
BLOCKS = {
    **dict.fromkeys(('EDSR', 'SRResNetBN', 'RCAN', 'RRDBNet'), ['body.0', 'body.1']),
    'MSRResNet': ['body.0', 'body.1', 'body.2'],
    'RDN': ['RDBs.0', 'RDBs.1'],
    'IDN': ['down1', 'down2', 'down3', 'down4'],
    **dict.fromkeys(('SwinIR', 'HAT'), ['layers.0', 'layers.1']),
    'SRVGGNetCompact': ['body.2', 'body.4', 'body.6', 'body.8'],
}


def test_scope_full_adds_ends_and_what_lies_outside_the_blocks(kind, quantized):
    body, full = quantized(kind).plan, quantized(kind, FULL).plan
    ends, between = OUTSIDE_THE_BLOCKS[kind]
    assert list(full.ends) == ends and body.ends == ()
    assert sorted(set(full.adaptive) - set(body.adaptive)) == sorted(between)
    assert set(body.adaptive) <= set(full.adaptive) and body.static == full.static


def test_scope_full_leaves_attention_alone_float(kind, quantized):
    net = quantized(kind, FULL)
    floating = [
        name
        for name, m in net.backbone.named_modules()
        if isinstance(m, nn.Conv2d | nn.Linear) and not isinstance(m, QuantLayer)
    ]
    attention = ('attention', '.attn.', '.overlap_attn.', '.conv_block.')
    assert all(any(part in name for part in attention) for name in floating)
    assert bool(floating) == (kind in ('RCAN', 'SwinIR', 'HAT'))


def test_only_adaptive_layers_are_numbered(kind, section, quantized):
    net = quantized(kind, section)
    indices = {layer.name: layer.index for layer in net.quant_layers()}
    assert [indices.pop(name) for name in net.plan.adaptive] == list(range(len(net.policy.layer_factors)))
    assert set(indices) == {*net.plan.static, *net.plan.ends} and set(indices.values()) <= {None}


def test_features_are_those_of_the_same_blocks_in_both_scopes(kind, section, quantized):
    assert feature_taps(quantized(kind, section).plan.features) == BLOCKS[kind]


def test_local_fusion_of_rdn_keeps_the_base_bits(quantized):
    net = quantized('RDN')
    assert net.plan.static == ('RDBs.0.LFF', 'RDBs.1.LFF')
    assert {'GFF.0', 'GFF.1', 'RDBs.1.convs.1.conv.0'} <= set(net.plan.adaptive)
    assert {layer.options.activation.bits for layer in net.quant_layers() if layer.index is None} == {4}


@pytest.mark.parametrize('upsampler, convolutions', [
    ('pixelshuffle', ['conv_before_upsample.0', 'upsample.0', 'upsample.2', 'conv_last']),
    ('nearest+conv', ['conv_before_upsample.0', 'conv_up1', 'conv_up2', 'conv_hr', 'conv_last']),
    ('pixelshuffledirect', ['upsample.0']),
])  # fmt: skip
def test_every_upsampler_of_swinir(upsampler, convolutions):
    backbone = {
        'type': 'SwinIR', 'upscale': 4, 'img_size': 16, 'window_size': 8, 'depths': [2], 'num_heads': [2],
        'embed_dim': 8, 'upsampler': upsampler, 'resi_connection': '3conv',
    }  # fmt: skip
    plan = QuantizedSR(backbone, FULL).plan
    assert list(plan.ends) == ['conv_first', *convolutions]
    assert {'layers.0.conv.0', 'layers.0.conv.4', 'conv_after_body.2'} <= set(plan.adaptive)


def test_exclusions_apply_to_every_kind():
    plan = QuantizedSR(EDSR, {**FULL, 'exclude': ['conv_last', 'conv_after_body', 'body.0']}).plan
    assert plan.adaptive == ('body.1.conv1', 'body.1.conv2') == plan.features
    assert plan.ends == ('conv_first', 'upsample.0')


@pytest.mark.parametrize('bits, ends', [((4, 6), (8, 8)), ((4, 32), (8, 32)), ((32, 6), (32, 8)), ((2, 2), (8, 8))])
def test_ends_have_8_bits_where_the_body_is_not_float(bits, ends, images):
    weight, activation = bits
    section = {'weight': {'bits': weight}, 'activation': {'bits': activation, 'bits_range': [2, 7]}, 'scope': 'full'}
    net = QuantizedSR(EDSR, section)
    for layer in net.quant_layers():
        expected = ends if layer.name in ('conv_first', 'upsample.0', 'conv_last') else bits
        assert (layer.options.weight.bits, layer.options.activation.bits) == expected
    calibration = Calibration(net)
    calibration.observe(images)
    calibration.finish()
    with torch.no_grad():
        assert net(images).isfinite().all()


def test_patterns_in_scope_full_make_what_the_rule_takes_besides_ends():
    plan = QuantizedSR(EDSR, {**FULL, 'layers': ['body.0']}).plan
    assert plan.adaptive == plan.features == ('body.0.conv1', 'body.0.conv2')
    assert plan.ends == ('conv_first', 'body.1.conv1', 'body.1.conv2', 'conv_after_body', 'upsample.0', 'conv_last')


def test_patterns_of_a_transformer_whose_window_does_not_divide_the_probe():
    backbone = {'type': 'SwinIR', 'upscale': 2, 'img_size': 14, 'window_size': 7, 'depths': [2], 'num_heads': [2],
                'embed_dim': 8, 'upsampler': 'pixelshuffledirect'}  # fmt: skip
    plan = QuantizedSR(backbone, {**FULL, 'layers': ['Mlp']}).plan
    assert plan.ends == ('conv_first', 'layers.0.conv', 'conv_after_body', 'upsample.0') and len(plan.adaptive) == 4


def test_the_generic_rule_in_scope_full(log_lines):
    plan = QuantizedSR(RIDNET, FULL).plan
    assert {'head', 'tail'} <= set(plan.ends) and len(plan.adaptive) >= 4 and not set(plan.ends) & set(plan.adaptive)
    assert not any('.conv_du' in name or 'ca.' in name for name in plan.quantized)
    assert QuantizedSR(RIDNET, {**FULL, 'scope': 'body'}).plan.adaptive == plan.adaptive
    assert any('generic rule' in line and 'outside of attention' in line for line in log_lines)
    assert any('images of 3 channels to 3, scale 1, values 0 to 1 (assumed' in line for line in log_lines)


def test_the_log_is_one_short_line(log_lines, quantized):
    quantized('RDN', FULL)
    assert [line for line in log_lines if line.startswith('RDN')] == [
        'RDN: 6 layers adapt, 2 keep the base bits, 4 ends (profile of RDN), weights of 4 bits, activations of 4, '
        'ImageLayerPolicy.'
    ]


def test_the_table_tells_every_layer(quantized):
    lines = quantized('RDN', FULL).layer_table().splitlines()
    assert lines[0].split() == ['layer', 'role', 'weight', 'activation', 'runs']
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows['GFF.0'] == ['body', '4', '4', '(2', 'to', '8)', '1']
    assert rows['RDBs.0.LFF'] == ['body', '4', '4', '1'] and rows['SFENet1'] == ['end', '8', '8', '1']
    assert len(rows) == 12
    table = quantized('RDN').layer_table()
    assert re.search(r'SFENet1 +float \(no part of what is quantized\) +float +float +1\n', table)


def test_the_table_tells_why_layers_stay_float():
    table = QuantizedSR(RIDNET, {**W4A4, 'exclude': ['MergeRun']}).layer_table()
    for words in (r'head +head \(the first convolution\) +float +float +1',
                  r'body\.0\.ca\.attention\.1 +attention \(feeds nothing but gates\) +float +float +1',
                  r'body\.0\.merge\.aggregation\.0 +float \(of the body, but left out\)',
                  r'sub_mean +float \(maps images to images\)', r'tail +end \(the last',
                  r'body\.0\.block1\.conv1 +body +4 +4 \(2 to 8\) +1'):  # fmt: skip
        assert re.search(words, table), table


def test_an_unknown_scope_is_named():
    with pytest.raises(DynqError, match=r"quantization\.scope: must be one of body, full, not 'all'"):
        QuantizedSR(EDSR, {**FULL, 'scope': 'all'})


PRECISE = {
    **dict.fromkeys(('EDSR', 'MSRResNet', 'RRDBNet'), ['conv_first']), 'SRResNetBN': ['head'],
    'RDN': ['SFENet1', 'SFENet2'], 'IDN': ['conv1', 'conv2', 'down1', 'down2', 'down3'],
    'RCAN': ['conv_first', 'body.0.conv', 'body.1.conv'], 'SRVGGNetCompact': ['body.0'],
}  # fmt: skip


def test_float_convolutions_ahead_are_precise_where_no_attention_runs_ahead(kind, quantized):
    net, full = quantized(kind), quantized(kind, FULL)
    layers = {layer.name: layer for layer in net.precise_layers() if 'attention' not in layer.name}
    assert list(layers) == PRECISE.get(kind, []) and set(layers) <= set(net.plan.precise)
    assert all('attention' in layer.name for layer in full.precise_layers())
    assert all(layer.holder is net.holder and layer.float64 for layer in layers.values())


def test_batch_norms_are_folded_but_for_what_the_policy_sees(quantized):
    assert quantized('SRResNetBN').plan.norms['body.0.conv1'] == 'body.0.bn1'
    assert 'body_conv' not in quantized('SRResNetBN').plan.norms
    assert quantized('SRResNetBN', FULL).plan.norms['body_conv'] == 'body_bn'
    weights_alone = quantized('SRResNetBN', {'weight': {'bits': 4}}).plan
    assert weights_alone.norms == {} and weights_alone.precise == ()


def test_attention_of_channels_is_precise_in_both_scopes(quantized):
    for section in (W4A4, FULL):
        plan = quantized('RCAN', section).plan
        for part in range(5):
            name = f'body.0.residual_group.0.rcab.3.attention.{part}'
            assert (name in plan.precise) == (part != 2)  # a ReLU rounds nothing


@pytest.mark.parametrize('options, precise', [
    ({'padding': 1}, ('1',)), ({'padding': 'same'}, ()), ({'padding': 1, 'padding_mode': 'reflect'}, ()),
])  # fmt: skip
def test_without_a_profile_the_head_is_precise_where_a_graph_can_be(options, precise):
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 3, **options), *(nn.Conv2d(8, 8, 3) for _ in range(3)))
    plan = plan_layers(net, Probed(3, 8, 1), QuantizationOptions.from_dict(W4A4))
    assert plan.adaptive == ('2', '3') and plan.precise == ('0', *precise)  # mean shifts are, too


def test_without_a_convolution_nothing_is_precise():
    class Linears(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)))

        def forward(self, x):
            return self.layers(x.movedim(1, -1)).movedim(-1, 1)

    options = QuantizationOptions.from_dict({**W4A4, 'layers': ['layers.1']})
    assert plan_layers(Linears(), Probed(3, 3, 1), options).precise == ()


def test_networks_with_a_profile_are_not_run(bare, monkeypatch):
    net = bare('EDSR')
    monkeypatch.setattr(net, 'forward', None)
    plan = plan_layers(net, Probed(3, 3, 4), QuantizationOptions.from_dict(FULL), needs_head=True)
    assert plan.head == 'conv_first' and plan.norms == {} and len(plan.adaptive) == 5


def test_a_foreign_class_of_the_same_name_gets_the_rule():
    class EDSR(nn.Module):
        """As EDSR-PyTorch names its layers."""

        def __init__(self):
            super().__init__()
            self.sub_mean, self.add_mean = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.head, self.tail = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)
            self.body = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1))

        def forward(self, x):
            x = self.head(self.sub_mean(x))
            return self.add_mean(self.tail(x + self.body(x)))

    plan = plan_layers(EDSR(), Probed(3, 3, 1), QuantizationOptions.from_dict(FULL), needs_head=True)
    assert plan.adaptive == ('body.0', 'body.2') and plan.ends == ('head', 'tail') and plan.head == 'head'
    assert plan.precise == ('sub_mean', 'add_mean')
