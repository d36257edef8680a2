"""The wrapper, over every architecture that has a profile."""

from copy import deepcopy

import pytest
import torch
from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.clipping import Clipping
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.training.calibration import Calibration

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}
W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
FULL = {**W4A4, 'scope': 'full'}


# -- switched off ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_switched_off_it_is_the_bare_backbone_bit_for_bit(kind, section, bare, calibrated, images):
    expected = bare(kind)(images)
    net = calibrated(kind, quantization=section)
    assert not torch.equal(net(images), expected)
    last = images.contiguous(memory_format=torch.channels_last)
    for run in (lambda x: net(x, mode=Mode.FLOAT), net.backbone):
        assert torch.equal(run(images), expected)
        assert torch.equal(run(last), bare(kind)(last))
    assert not torch.equal(net(images), expected)


def granular(backbone, **quantization):
    net = QuantizedSR(backbone, {'weight': {'bits': 8}, 'activation': {'bits': 8}} | quantization,
                      {'type': 'GranularDQ'}).eval()  # fmt: skip
    net.policy.set_distribution(torch.linspace(0, 3.4, 100))
    calibration = Calibration(net, Clipping(bit_aware=False))
    calibration.observe(torch.rand(2, 3, 24, 24))
    calibration.finish()
    return net


@torch.no_grad()
def test_the_shallow_feature_is_that_of_the_convolution_that_runs_first(images):
    class LateHead(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Conv2d(3, 5, 1)
            self.body = nn.Sequential(*(nn.Conv2d(8, 8, 3, 1, 1) for _ in range(3)))
            self.tail = nn.Sequential(nn.Conv2d(8, 12, 3, 1, 1), nn.PixelShuffle(2))
            self.head = nn.Conv2d(3, 8, 3, 1, 1)

        def forward(self, x):
            return self.tail(self.body(self.head(x)))

    ARCH_REGISTRY._do_register('LateHead', LateHead)
    try:
        net = granular({'type': 'LateHead'})
    finally:
        del ARCH_REGISTRY._obj_map['LateHead']
    assert net.plan.head == 'head' and net.policy.controller.gate.in_features == 3 * 8
    assert net(images).shape[-1] == 2 * images.shape[-1]


@torch.no_grad()
def test_a_deep_copy_has_a_shallow_feature_of_its_own(images):
    net = granular(EDSR)
    torch.nn.init.normal_(net.policy.controller.gate.weight)
    twin = deepcopy(net)
    assert torch.equal(twin(images), net(images))


def test_the_layer_that_a_policy_looks_at_cannot_adapt_itself():
    with pytest.raises(DynqError, match='what conv_first makes of the image.*exclude'):
        granular(EDSR, layers=['Conv2d'])
    assert 'conv_first' not in granular(EDSR, layers=['Conv2d'], exclude=['conv_first']).plan.adaptive
    QuantizedSR(EDSR, W4A4 | {'layers': ['Conv2d']}, {'type': 'AdaBM'})


@torch.no_grad()
@pytest.mark.parametrize('quantization', [None, {'weight': {'bits': 32}, 'activation': {'bits': 32}}])
def test_32_bits_are_the_bare_backbone_bit_for_bit(kind, bare, quantized, images, quantization):
    net = quantized(kind, quantization, policy='Fixed')
    assert net.quant_layers() == [] and net.calibrated
    assert torch.equal(net(images), bare(kind)(images))
    assert set(net.backbone.state_dict()) == set(bare(kind).state_dict())


def test_weights_are_the_backbones_own(kind, section, bare, quantized):
    own = quantized(kind, section).backbone.state_dict()
    assert all(torch.equal(own[key], value) for key, value in bare(kind).state_dict().items())


# -- switched on -----------------------------------------------------------------------------------------------------


def test_an_uncalibrated_network_refuses_to_run(kind, quantized, images):
    with pytest.raises(DynqError, match='never calibrated.*pretrain_network_g'):
        quantized(kind)(images)


@torch.no_grad()
def test_samples_are_independent(kind, section, calibrated, images):
    # in double precision: the order of summation, which differs with the batch, must not tip a value that is rounded
    net, images = calibrated(kind, quantization=section).double(), images.double()
    together, bits, _ = net(images, details=True)
    assert bits.shape == (len(net.plan.adaptive), len(images))
    for index, image in enumerate(images):
        alone, own, _ = net(image.unsqueeze(0), details=True)
        assert torch.equal(own, bits[:, index : index + 1])
        torch.testing.assert_close(together[index : index + 1], alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_saved_network_gives_the_same_output_bit_for_bit(kind, section, calibrated, quantized, images, tmp_path):
    net = calibrated(kind, quantization=section)
    with torch.no_grad():
        net.policy.layer_factors.add_(0.3)
    torch.save(net.state_dict(), tmp_path / 'net.pth')
    other = quantized(kind, section)
    for parameter in other.parameters():
        parameter.fill_(9)
    other.load_state_dict(torch.load(tmp_path / 'net.pth', weights_only=True))
    assert torch.equal(other(images), net(images))


@torch.no_grad()
def test_eight_bits_are_close_to_float_and_two_are_not(kind, bare, calibrated, images):
    expected = bare(kind)(images)

    def error(bits):
        section = {'weight': {'bits': bits, 'granularity': 'channel'}, 'activation': {'bits': bits}}
        return (calibrated(kind, quantization=section, policy='Fixed')(images) - expected).square().mean().sqrt()

    deviation = expected.std()
    assert error(8) < 0.05 * deviation and error(2) > 5 * error(8)


def test_gradients_reach_ranges_and_maps_and_frozen_weights_stay_out(kind, section, calibrated, images):
    net = calibrated(kind, quantization=section)
    learned = [
        p for layer in net.quant_layers() for p in (*layer.activation_range.parameters(), layer.weight_range.log_upper)
    ]
    learned += [net.policy.layer_factors, net.policy.thresholds]
    net.requires_grad_(False)
    for parameter in learned:
        parameter.requires_grad_(True)
    net(images, mode=Mode.TRAINING).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in learned)
    assert (net.policy.layer_factors.grad != 0).any() and (net.policy.thresholds.grad != 0).any()
    assert all(p.grad is None for p in net.parameters() if not p.requires_grad)


# -- layers ----------------------------------------------------------------------------------------------------------


def test_profiles_quantize_the_layers_they_should(kind, quantized, layer_count):
    net = quantized(kind)
    layers = net.quant_layers()
    adaptive = [layer for layer in layers if layer.index is not None]
    assert len(adaptive) == layer_count == len(net.policy.layer_factors)
    assert [layer.index for layer in adaptive] == list(range(layer_count))
    modules = dict(net.backbone.named_modules())
    assert all(modules[layer.name] is layer for layer in layers)
    floating = [
        name for name, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear) and not isinstance(m, QuantLayer)
    ]
    assert {'conv_first', 'conv_last', 'head', 'tail', 'body.0', 'SFENet1', 'conv1'} & set(floating)
    names = [layer.name.replace('overlap_attn.mlp', 'mlp') for layer in layers]  # an MLP inside HAT's attention block
    assert not any('attention' in name or 'attn' in name for name in names)


def test_patterns_replace_the_profile():
    net = QuantizedSR(EDSR, {**W4A4, 'layers': ['conv_first', 're:body.*'], 'exclude': 'body.1'})
    assert [layer.name for layer in net.quant_layers()] == ['conv_first', 'body.0.conv1', 'body.0.conv2']


def test_exclusions_apply_to_the_profile():
    net = QuantizedSR(EDSR, {**W4A4, 'exclude': [r're:body\.\d\.conv1']})
    assert [layer.name for layer in net.quant_layers()] == ['body.0.conv2', 'body.1.conv2']


@pytest.mark.parametrize('key', ['layers', 'exclude'])
@pytest.mark.parametrize('patterns', [['body.0.conv9'], 'body.0.conv9', [5]])
def test_a_pattern_that_matches_nothing_is_an_error(key, patterns):
    with pytest.raises(DynqError, match='conv9|5'):
        QuantizedSR(EDSR, {**W4A4, key: patterns})


@torch.no_grad()
def test_an_architecture_without_a_profile_follows_the_generic_rule(images, log_lines):
    backbone = {'type': 'RIDNet', 'in_channels': 3, 'mid_channels': 16, 'out_channels': 3, 'num_block': 1}
    net = QuantizedSR(backbone, W4A4)
    names = [layer.name for layer in net.quant_layers()]
    assert 'head' not in names and 'tail' not in names and len(names) >= 4
    assert any('generic rule' in line for line in log_lines)
    calibration = Calibration(net)
    calibration.observe(images)
    calibration.finish()
    assert net(images).isfinite().all()


@torch.no_grad()
def test_attention_layers_chosen_by_pattern_keep_samples_independent(images, calibrated):
    """Windows stand on the sample axis there: several rows of the input belong to one sample."""
    section = {**W4A4, 'layers': [r're:.*\.(qkv|fc1)']}
    net = calibrated('SwinIR', quantization=section)
    together = net(images)
    alone = torch.cat([net(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


# -- bits ------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_traces_hold_every_layer_in_order_and_follow_the_image(kind, calibrated, images, layer_count):
    net = calibrated(kind)
    net.policy.thresholds.copy_(torch.tensor([8.0, 40.0]))
    net.policy.layer_factors.zero_()
    net.policy.layer_factors[0] = 1
    bits = net(images, details=True).bits
    assert bits.shape == (layer_count, len(images)) and len(net.plan.adaptive) == layer_count
    first, *others = bits.tolist()
    assert all(other == others[0] for other in others) and first == [bits + 1 for bits in others[0]]
    assert others[0] == sorted(others[0]) and {3, 5} <= set(others[0])


@torch.no_grad()
def test_static_layers_use_their_own_bits_whatever_the_image(kind, calibrated, images):
    net = calibrated(kind, quantization={'weight': {'bits': 3}, 'activation': {'bits': 5}, 'scope': 'full'})
    grids = {}
    for one in net.quant_layers():
        one.register_forward_pre_hook(lambda one, _: grids.update({one.name: net.holder.run.grids[one.position]}))
    bits = net(images, details=True).bits
    static = dict.fromkeys(net.plan.static, 5) | dict.fromkeys(net.plan.ends, 8)
    assert net.static_bits() == static and len(set(bits[:, 0].tolist())) > 1
    # what the layers really had: the number of levels of their grids
    for name, grid in grids.items():
        expected = bits[net.plan.adaptive.index(name)] if name in net.plan.adaptive else torch.tensor([static[name]])
        assert torch.equal(grid[2] - grid[1], 2.0**expected - 1)
    assert set(grids) == {*net.plan.adaptive, *static}
    for layer in net.quant_layers():
        scale = layer.weight_range.upper / (2 ** ((8 if layer.name in net.plan.ends else 3) - 1) - 1)
        torch.testing.assert_close(layer.quantized_weight() / scale, (layer.quantized_weight() / scale).round())


@torch.no_grad()
def test_a_fixed_policy_uses_the_base_bits(calibrated, images):
    net = calibrated('EDSR', policy='Fixed')
    bits = net(images, details=True).bits
    assert bits.tolist() == [[4.0]] * len(net.plan.adaptive)


@torch.no_grad()
def test_switched_off_there_are_no_bits(calibrated, images):
    net = calibrated('EDSR')
    output, bits, features = net(images, mode=Mode.FLOAT, details=True)
    assert bits.shape == (0, 1) and features == () and torch.equal(output, net.backbone(images))


# -- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('options, named', [
    ({'backbone': {'type': 'EDRS'}}, r"backbone\.type: no registered architecture 'EDRS'.*'EDSR'"),
    ({'backbone': {'num_feat': 8}}, r'backbone\.type'),
    ({'backbone': {}}, r'backbone\.type'),
    ({'backbone': {**EDSR, 'num_feats': 8}}, "'num_feats'.*'num_feat'"),
    ({'backbone': {'type': 'EDSR'}}, 'num_in_ch'),
    ({'backbone': EDSR, 'quantization': {'weights': {'bits': 4}}}, "'weights'.*'weight'"),
    ({'backbone': EDSR, 'quantization': W4A4, 'policy': {'type': 'AdaMB'}}, "'AdaMB'.*'AdaBM'"),
])  # fmt: skip
def test_wrong_options_are_named(options, named):
    with pytest.raises(DynqError, match=named):
        QuantizedSR(**options)


def test_both_spellings_of_basicsrs_suffix():
    options = {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_conv': 4, 'upscale': 2}
    for name in ('SRVGGNetCompact', 'SRVGGNetCompact_basicsr'):
        assert len(QuantizedSR({'type': name, **options}, W4A4).quant_layers()) == 4


def test_options_are_left_alone():
    options = {'type': 'QuantizedSR', 'backbone': dict(EDSR), 'quantization': dict(W4A4), 'policy': {'type': 'AdaBM'}}
    build_network(options)
    assert options == {'type': 'QuantizedSR', 'backbone': EDSR, 'quantization': W4A4, 'policy': {'type': 'AdaBM'}}


def test_the_description_rebuilds_the_network(calibrated, images):
    net = calibrated('EDSR')
    again = QuantizedSR(**net.description).eval()
    again.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(again(images), net(images))


def test_the_window_of_a_transformer(quantized):
    assert quantized('SwinIR').sizes.multiple == 8 and quantized('EDSR').sizes.multiple == 1


def test_the_default_window_of_a_transformer():
    backbone = {'type': 'SwinIR', 'upscale': 2, 'img_size': 14, 'depths': [2], 'num_heads': [2], 'embed_dim': 8}
    assert QuantizedSR(backbone, W4A4).sizes.multiple == 7


@pytest.mark.parametrize('backbone', [
    {'type': 'SwinIR', 'upscale': 2, 'img_size': 14, 'depths': [2], 'num_heads': [2], 'embed_dim': 8,
     'upsampler': 'pixelshuffledirect'},
    {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': 2, 'num_feat': 8, 'num_block': 1, 'num_grow_ch': 4},
], ids=lambda backbone: backbone['type'])  # fmt: skip
def test_images_of_any_size_are_padded_and_cropped(backbone):
    net = QuantizedSR(backbone, W4A4).eval()
    net.calibrated = True
    with torch.no_grad():
        assert net(torch.rand(1, 3, 19, 23)).shape == (1, 3, 38, 46)
        even = torch.rand(1, 3, 14, 28)
        assert torch.equal(net(even, mode=Mode.FLOAT), net.backbone(even))


@pytest.mark.parametrize('options, told', [
    ({'upscale': 5}, 'network_g.backbone: EDSR refuses its options'),
    ({'num_feat': '8'}, "network_g.backbone.num_feat: must be a number, as 64, not '8'."),
])  # fmt: skip
def test_a_constructor_that_refuses_is_a_sentence(options, told):
    backbone = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, **options}
    with pytest.raises(DynqError, match=told):
        QuantizedSR(backbone, W4A4)


@pytest.mark.parametrize('scope', ['body', 'full'])
@pytest.mark.parametrize('kind', ['EDSR', 'SRResNetBN', 'RDN', 'IDN', 'RRDBNet'])
def test_no_order_of_summation_decides_a_rounding(kind, scope, calibrated):
    net = calibrated(kind, quantization={'weight': {'bits': 4}, 'activation': {'bits': 3}, 'scope': scope})
    x = torch.rand(3, 3, 20, 28, generator=torch.Generator().manual_seed(3))
    seen = {layer.name: [] for layer in net.quant_layers()}
    for layer in net.quant_layers():
        layer.register_forward_pre_hook(lambda layer, inputs: seen[layer.name].append(inputs[0].contiguous()))
    with torch.no_grad():
        net(x)
        net(x.contiguous(memory_format=torch.channels_last))
        net(x[1:2])
    for whole, channels_last, alone in seen.values():
        assert torch.equal(channels_last, whole) and torch.equal(alone, whole[1:2])


# -- runs ------------------------------------------------------------------------------------------------------------


def train(net, images, steps=2):
    """A few iterations that move every parameter."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        net.train()(images).square().mean().backward()
        optimizer.step()
    net.zero_grad()
    assert net.holder.run is None


def test_called_by_itself_the_backbone_is_the_float_network_even_after_training_steps(kind, bare, calibrated, images):
    net, plain = calibrated(kind, quantization=FULL), bare(kind)
    train(net, images)
    plain.load_state_dict({key: net.backbone.state_dict()[key] for key in plain.state_dict()})
    for mode in (True, False):
        found, expected = net.train(mode).backbone, plain.train(mode)
        torch.manual_seed(1)  # transformers drop paths
        output = found(images)
        torch.manual_seed(1)
        assert torch.equal(output, expected(images))
        output.square().sum().backward()
    # through the float layers: no range learns
    assert all(p.grad is None for layer in net.quant_layers() for p in layer.activation_range.parameters())


def test_evaluation_does_not_depend_on_gradients_or_autocast(kind, section, calibrated, images):
    net = calibrated(kind, quantization=section)
    with torch.no_grad():
        expected = net(images)
    with torch.inference_mode():
        assert torch.equal(net(images), expected)
    for context in (torch.enable_grad(), torch.autocast('cpu', dtype=torch.bfloat16)):
        with context:
            output, bits, _ = net(images, details=True)
            assert torch.equal(output, expected) and output.dtype == expected.dtype and not output.requires_grad
            assert not bits.requires_grad


def test_modes_by_name(calibrated, images):
    net = calibrated('EDSR')
    results = {mode: net(images, mode=mode) for mode in Mode}
    for mode in Mode:
        assert torch.equal(net(images, mode=mode.value), results[mode])
    assert torch.equal(net(images), results['exact']) and torch.equal(net.train()(images), results['training'])
    assert not any(torch.equal(results['float'], results[mode]) for mode in ('training', 'exact'))
    torch.testing.assert_close(results['training'], results['exact'], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match='exakt'):
        net(images, mode='exakt')


@pytest.mark.parametrize('mode', list(Mode))
@pytest.mark.parametrize('where', ['backbone', 'policy'])
def test_an_exception_leaves_no_run_behind(where, mode, calibrated, images, monkeypatch):
    net = calibrated('EDSR')
    expected, floating = net(images, mode=mode), net.backbone(images)

    def fail(*_):
        assert net.holder.run is not None
        raise RuntimeError('in the middle')

    with monkeypatch.context() as patch:
        if where == 'policy':
            patch.setattr(net.policy, 'decide', fail)
        handle = net.quant_layers()[1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match='in the middle'):
            net(images, mode=mode)
        handle.remove()
    assert net.holder.run is None and torch.equal(net.backbone(images), floating)
    assert torch.equal(net(images, mode=mode), expected)


@torch.no_grad()
@pytest.mark.parametrize('kind', ['EDSR', 'SRResNetBN', 'SwinIR'])
def test_a_deep_copy_has_a_holder_of_its_own(kind, calibrated, images):
    net = calibrated(kind)
    net.tap(net.quant_layers()[:2])
    expected, _, features = net(images, details=True)
    twin = deepcopy(net)
    assert twin.holder is not net.holder and twin.holder.run is None
    sharing = [module for module in twin.modules() if hasattr(module, 'holder')]
    assert len(sharing) > len(net.quant_layers()) and all(module.holder is twin.holder for module in sharing)
    assert twin.quant_layers() == [module for module in twin.modules() if isinstance(module, QuantLayer)]
    assert not {id(module) for module in twin.modules()} & {id(module) for module in net.modules()}
    for layer in twin.quant_layers():
        assert all(norm in set(twin.modules()) and norm.layer == (layer,) for norm in layer.norm)
        layer.weight.mul_(0.5)
        layer.activation_range.log_upper.add_(0.5)
    changed, _, others = twin(images, details=True)
    again, _, same = net(images, details=True)
    assert torch.equal(again, expected) and not torch.equal(changed, expected)
    assert len(features) == len(same) == len(others) == 2 and all(map(torch.equal, features, same))
    assert not torch.equal(features[0], others[0])


@pytest.mark.parametrize('mode', ['training', 'exact'])
def test_two_networks_do_not_disturb_each_other(mode, calibrated, images):
    """One runs in the middle of the other, and both run before either's backward pass."""
    one, other = calibrated('EDSR'), calibrated('SRResNetBN', quantization=FULL)
    alone = [net(images, mode=mode) for net in (one, other)]
    inner = []
    handle = one.quant_layers()[1].register_forward_pre_hook(lambda *_: inner.append(other(images, mode=mode)))
    both = [one(images, mode=mode), inner[0]]
    handle.remove()
    assert all(map(torch.equal, both, alone)) and one.holder.run is other.holder.run is None
    if mode == 'training':
        found, expected = [], []
        for results, gradients in ((alone, expected), (both[::-1], found)):
            for result in results:
                result.square().sum().backward()
            gradients += [p.grad for net in (one, other) for p in net.parameters()]
            one.zero_grad()
            other.zero_grad()
        assert all(map(torch.equal, found, expected)) and len(found) > 50
