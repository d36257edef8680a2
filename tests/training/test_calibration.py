"""Calibration against statistics that the test takes of the bare network itself."""

import numpy as np
import pytest
import torch
from basicsr.archs import build_network

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.complexity import gradient_density
from dynq_basicsr.quantization.clipping import Clipping
from dynq_basicsr.quantization.grids import integer_grid, snap
from dynq_basicsr.quantization.observers import Observed
from dynq_basicsr.quantization.range_rules import RangeRules
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.quantization.searches import CLIP_RATIOS, search_clipping, search_weight_range
from dynq_basicsr.training.calibration import Calibration

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 2}
NAMES = ['body.0.conv1', 'body.0.conv2', 'body.1.conv1', 'body.1.conv2']
ENDS = ['conv_first', 'upsample.0', 'conv_last']
FULL = {'weight': {'bits': 4}, 'activation': {'bits': 4}, 'scope': 'full'}


def build(policy=None, quantization=None):
    torch.manual_seed(0)
    quantization = quantization or {'weight': {'bits': 4}, 'activation': {'bits': 4}}
    return QuantizedSR(EDSR, quantization, policy or {'type': 'AdaBM'}).eval()


def calibrate(net, batches, **clipping):
    calibration = Calibration(net, Clipping(**clipping))
    for batch in batches:
        calibration.observe(batch['lq'])
    calibration.finish()
    return net


def searched_at(bits, observer):
    """The range that the search finds for one layer."""
    found = search_clipping(Observed.stack([observer], ['layer']), torch.tensor([float(bits)]))
    return [bound.item() for bound in found]


@pytest.fixture(scope='module')
def inputs_of():
    """What the layers of the bare network see of some batches: name -> (n, C, H, W)."""

    @torch.no_grad()
    def read(batches):
        torch.manual_seed(0)
        net = build_network(EDSR).eval()
        seen = {name: [] for name in (*NAMES, 'conv_after_body', *ENDS)}
        for name in seen:
            net.get_submodule(name).register_forward_pre_hook(lambda m, x, name=name: seen[name].append(x[0].clone()))
        for batch in batches:
            net(batch['lq'])
        return {name: torch.cat(one) for name, one in seen.items()}

    return read


def test_without_clipping_ranges_are_minimum_and_maximum(batches, inputs_of):
    seen = inputs_of(batches(4))
    net = calibrate(build(), batches(4), bit_aware=False)
    assert net.calibrated and len(net.quant_layers()) == 4
    for layer in net.quant_layers():
        assert layer.activation_range.lower.item() == pytest.approx(
            min(0, seen[layer.name].min().item()), rel=1e-5, abs=1e-7
        )
        assert layer.activation_range.upper.item() == pytest.approx(seen[layer.name].max().item(), rel=1e-5)


def test_rules_set_weight_and_activation_ranges(batches, inputs_of):
    """Each rule against the data itself; without bit-aware clipping, for any policy."""
    seen = inputs_of(batches(4))
    section = {'weight': {'bits': 4, 'granularity': 'channel'}, 'activation': {'bits': 4}}
    for rule in ('minmax', 'percentile'):
        rules = RangeRules(weight_range=rule, activation_range=rule, percentile=2)
        net = calibrate(build({'type': 'Fixed'}, section), batches(4), bit_aware=False, rules=rules)
        percent = 2 if rule == 'percentile' else 0
        for layer in net.quant_layers():
            x = seen[layer.name].flatten().numpy()
            low, high = np.percentile(x, [percent, 100 - percent])
            step = 4 * float(np.abs(x).max()) / 8192 if percent else 1e-6
            assert layer.activation_range.lower.item() == pytest.approx(min(0, low), rel=1e-5, abs=step)
            assert layer.activation_range.upper.item() == pytest.approx(high, rel=1e-5, abs=step)
            expected = np.percentile(layer.weight.detach().abs().flatten(1).numpy(), 100 - 2 * percent, axis=1)
            assert layer.weight_range.upper.flatten().tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_density_lies_within_minimum_and_maximum_and_cuts_its_mass(batches, inputs_of):
    seen = inputs_of(batches(4))
    rules = RangeRules(activation_range='density', density_mass=0.01)
    net = calibrate(build({'type': 'Fixed'}), batches(4), bit_aware=False, rules=rules)
    for layer in net.quant_layers():
        x, bounds = seen[layer.name].double(), layer.activation_range
        step = 4 * x.abs().max() / 8192
        cut = ((x < bounds.lower - step) | (x > bounds.upper + step)).double().mean()
        assert cut <= 0.01 and bounds.upper < x.max()


def test_sensitivities_set_the_layer_map(batches, inputs_of):
    seen = inputs_of(batches(4))
    deviations = [seen[name].flatten(1).std(dim=1).mean().item() for name in NAMES]
    low, high = np.percentile(deviations, [30, 70])
    net = calibrate(build(), batches(4))
    assert net.policy.layer_factors.tolist() == [(d > high) * 1.0 - (d < low) * 1.0 for d in deviations]
    assert sorted(net.policy.layer_factors.tolist()) == [-1, 0, 0, 1]


def test_complexities_of_all_patches_set_the_image_map(batches):
    net = calibrate(build({'type': 'AdaBM', 'image_percentile': 20}), batches(5))
    complexities = torch.cat([gradient_density(batch['lq']) for batch in batches(5)])
    assert net.policy.thresholds.tolist() == pytest.approx(np.percentile(complexities, [20, 80]).tolist(), rel=1e-5)


def test_clipping_is_searched_at_the_bits_of_each_layer(batches, inputs_of):
    seen = inputs_of(batches(4))
    net = calibrate(build(), batches(4))
    for layer, factor in zip(net.quant_layers(), net.policy.layer_factors.tolist(), strict=True):
        x = seen[layer.name].flatten()[None].double()
        low, high = min(0, x.min().item()), x.max().item()

        def error(ratio, x=x, low=low, high=high, bits=4 + factor):
            bounds = torch.tensor(ratio * low).double(), torch.tensor(ratio * high).double()
            return float((snap(x, integer_grid(*bounds, bits)) - x).square().mean())

        found = layer.activation_range.upper.item() / high
        assert layer.activation_range.lower.item() == pytest.approx(found * low, rel=1e-4, abs=1e-7)
        assert error(found) <= min(error(float(ratio)) for ratio in CLIP_RATIOS) * 1.005
        assert found < 1


def test_weights_are_searched(batches):
    for granularity in ('tensor', 'channel'):
        section = {'weight': {'bits': 4, 'granularity': granularity}, 'activation': {'bits': 4}}
        net = calibrate(build(quantization=section), batches(1))
        for layer in net.quant_layers():
            expected = search_weight_range(layer.weight, 4, granularity == 'channel')
            torch.testing.assert_close(layer.weight_range.upper, expected)


@pytest.mark.parametrize('norm', [1, 2])
def test_ends_are_searched_at_8_bits_by_the_squared_error(batches, norm):
    net = build(quantization=FULL)
    calibration = Calibration(net, Clipping(norm=norm))
    for batch in batches(4):
        calibration.observe(batch['lq'])
    calibration.finish()
    searched = 0
    for layer, observer in zip(calibration.layers, calibration.observers, strict=True):
        bounds = layer.activation_range
        if layer.name in ENDS:
            lower, upper = searched_at(8, observer)
            assert (-bounds.lower.item(), bounds.upper.item()) == pytest.approx((max(-lower, 1e-8), upper), rel=1e-5)
            torch.testing.assert_close(layer.weight_range.upper, search_weight_range(layer.weight, 8))
            searched += 1
        elif layer.name == 'conv_after_body':
            assert bounds.upper < observer.upper
    assert searched == len(ENDS)


def test_ends_keep_minimum_and_maximum_without_bit_aware_clipping(batches, inputs_of):
    seen = inputs_of(batches(4))
    net = calibrate(build(quantization=FULL), batches(4), bit_aware=False)
    layers = {layer.name: layer for layer in net.quant_layers()}
    assert set(layers) == set(seen)
    for name in ENDS:
        bounds = layers[name].activation_range
        assert bounds.lower.item() == pytest.approx(min(0, seen[name].min().item()), rel=1e-5, abs=1e-7)
        assert bounds.upper.item() == pytest.approx(seen[name].max().item(), rel=1e-5)


def test_the_layer_map_of_scope_full_knows_nothing_of_the_ends(batches, inputs_of):
    seen = inputs_of(batches(4))
    deviations = [seen[name].flatten(1).std(dim=1).mean().item() for name in (*NAMES, 'conv_after_body')]
    low, high = np.percentile(deviations, [30, 70])
    net = calibrate(build(quantization=FULL), batches(4))
    assert net.policy.layer_factors.tolist() == [(d > high) * 1.0 - (d < low) * 1.0 for d in deviations]


def test_scope_full_leaves_the_ranges_of_the_blocks_alone(batches):
    policy = {'type': 'AdaBM', 'layer_to_bit': False}
    body, full = calibrate(build(policy), batches(3)), calibrate(build(policy, FULL), batches(3))
    layers = {layer.name: layer for layer in full.quant_layers()}
    for layer in body.quant_layers():
        assert torch.equal(layer.activation_range.upper, layers[layer.name].activation_range.upper)
        assert torch.equal(layer.weight_range.upper, layers[layer.name].weight_range.upper)


def test_static_layers_are_clipped_at_the_base_bits(batches):
    torch.manual_seed(0)
    backbone = {'type': 'RDN', 'num_feat': 8, 'num_block': 2, 'num_layer': 2, 'num_grow_ch': 4, 'upscale': 2}
    net = QuantizedSR(backbone, FULL, {'type': 'AdaBM'}).eval()
    calibration = Calibration(net)
    for batch in batches(3):
        calibration.observe(batch['lq'])
    calibration.finish()
    for layer, observer in zip(calibration.layers, calibration.observers, strict=True):
        if layer.name in net.plan.static:
            expected = searched_at(4, observer)
            assert layer.activation_range.upper.item() == pytest.approx(expected[1], rel=1e-5)
            assert expected[1] < observer.upper


def test_a_fixed_policy_is_searched_at_the_base_bits(batches):
    fixed = calibrate(build({'type': 'Fixed'}), batches(3))
    plain = calibrate(build({'type': 'AdaBM', 'layer_to_bit': False}), batches(3))
    for one, other in zip(fixed.quant_layers(), plain.quant_layers(), strict=True):
        assert one.activation_range.upper.item() == other.activation_range.upper.item()


@pytest.mark.parametrize('quantization', [{'weight': {'bits': 4}}, {'activation': {'bits': 4}}])
@pytest.mark.parametrize('scope', ['body', 'full'])
@pytest.mark.parametrize('policy', ['Fixed', 'AdaBM'])
def test_one_part_alone(batches, quantization, scope, policy):
    net = calibrate(build({'type': policy}, {**quantization, 'scope': scope}), batches(2))
    with torch.no_grad():
        assert net(batches(1)[0]['lq']).isfinite().all()


def test_batches_may_be_cut_otherwise(batches):
    images = torch.cat([batch['lq'] for batch in batches(3)])
    two, six = calibrate(build(), batches(3)), calibrate(build(), [{'lq': images}])
    for one, other in zip(two.parameters(), six.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def _hooks(net):
    return [(dict(module._forward_pre_hooks), dict(module._forward_hooks)) for module in net.modules()]


def test_weights_and_hooks_are_left_alone(batches):
    net = build()
    before = {name: p.clone() for name, p in net.named_parameters() if 'range' not in name and 'policy' not in name}
    hooks = _hooks(net)
    calibrate(net, batches(2))
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters() if name in before)
    assert _hooks(net) == hooks
    assert net.holder.run is None


def test_calibrating_again_forgets_the_first_time(batches):
    net = calibrate(build(), batches(3, seed=1))
    again, once = calibrate(net, batches(3, seed=2)), calibrate(build(), batches(3, seed=2))
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), once.parameters(), strict=True))


def test_no_image_is_an_error():
    net = build()
    with pytest.raises(DynqError, match='saw no image'):
        Calibration(net).finish()
    assert not net.calibrated


@pytest.mark.parametrize('value', [float('nan'), float('inf'), float('-inf')])
@pytest.mark.parametrize('place', ['conv_first', 'body.0.conv1', 'body.1.conv1'])
def test_weights_that_are_not_finite_are_named_by_the_layer_behind(batches, value, place):
    net = build()
    with torch.no_grad():
        net.backbone.get_submodule(place).weight[0, 0, 0, 0] = value
    with pytest.raises(DynqError, match=r'body\.\d\.conv\d.*NaN or infinity'):
        calibrate(net, batches(2))
    assert not net.calibrated


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_an_image_that_is_not_finite_stops_calibration_whenever_it_comes(batches, value):
    images = batches(3)
    images[1]['lq'][0, 0, 3, 3] = value
    net = build()
    with pytest.raises(DynqError, match='NaN or infinity'):
        calibrate(net, images)
    assert not net.calibrated


def test_black_images_give_usable_ranges(batches):
    net = calibrate(build(), [{'lq': torch.zeros(2, 3, 32, 32)}])
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 16, 16)).isfinite().all() and net(batches(1)[0]['lq']).isfinite().all()


def test_dead_layers_give_usable_ranges(batches):
    net = build()
    with torch.no_grad():
        net.backbone.body[0].conv1.weight.zero_()
        net.backbone.body[0].conv1.bias.fill_(-1)  # so that the ReLU behind it lets nothing through
    calibrate(net, batches(2))
    dead = net.quant_layers()[1].activation_range
    assert 0 < dead.upper.item() < 1e-6
    net.requires_grad_(True)
    net(batches(1)[0]['lq'], mode=Mode.TRAINING).sum().backward()
    assert any(p.grad is not None for p in net.parameters())
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_a_layer_that_never_runs_is_named(batches):
    net = build()
    net.backbone.body[1].forward = lambda x: x
    with pytest.raises(DynqError, match=r'body\.1\.conv1 never ran.*exclude'):
        calibrate(net, batches(1))
    assert not net.calibrated


def test_a_layer_that_runs_for_some_inputs_only_is_observed_whenever_it_runs(batches):
    """Calibration ends a forward behind the last layer, but not before it knows them all."""
    net = build()
    second = net.backbone.body[1]
    plain, calls = second.forward, []

    def now_and_then(x):
        calls.append(len(calls) != 0)
        return plain(x) if calls[-1] else x

    second.forward = now_and_then
    calibration = Calibration(net)
    given = batches(3)
    for batch in given:
        calibration.observe(batch['lq'])
    pixels = [int(one.counts.sum()) if one.counts is not None else 0 for one in calibration.observers]
    assert calls == [False, True, True] and [3 * pixels[2], 3 * pixels[3]] == [2 * pixels[0], 2 * pixels[1]]


def test_the_rest_of_the_network_does_not_run_again(batches):
    net, reached = build(), []
    net.backbone.conv_last.register_forward_pre_hook(lambda module, inputs: reached.append(1))
    calibrate(net, batches(3))
    assert len(reached) == 1


def test_large_batches_give_the_ranges_of_small_ones(batches, monkeypatch):
    """Where a device takes large batches, patches wait until there are enough; other sizes are not mixed with them."""
    given = batches(5)
    given[2]['lq'] = given[2]['lq'][..., :24]
    small = calibrate(build(quantization=FULL), given)
    net, sizes = build(quantization=FULL), []
    net.register_forward_pre_hook(lambda net, inputs: sizes.append(tuple(inputs[0].shape)))
    monkeypatch.setattr('dynq_basicsr.training.calibration.batch_of', lambda images: 3)
    large = calibrate(net, given)
    # two pairs; the narrow pair alone; two pairs
    assert sizes == [(4, 3, 32, 32), (2, 3, 32, 24), (4, 3, 32, 32)]
    for one, other in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_what_still_waits_is_observed_in_the_end(batches, monkeypatch):
    monkeypatch.setattr('dynq_basicsr.training.calibration.batch_of', lambda images: 100)
    waiting, once = calibrate(build(), batches(3)), build()
    monkeypatch.undo()
    calibrate(once, [{'lq': torch.cat([batch['lq'] for batch in batches(3)])}])
    assert all(torch.equal(one, other) for one, other in zip(waiting.parameters(), once.parameters(), strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU is here')
def test_a_gpu_runs_large_batches_and_finds_the_same_ranges(batches):
    sizes, found = [], []
    for device in ('cpu', 'cuda'):
        net = build(quantization=FULL).to(device)
        net.register_forward_pre_hook(lambda net, inputs: sizes.append(len(inputs[0])))
        found.append(calibrate(net, [{'lq': batch['lq'].to(device)} for batch in batches(20)]).cpu())
    assert sizes == [2] * 20 + [32, 8]
    for one, other in zip(found[0].quant_layers(), found[1].quant_layers(), strict=True):
        torch.testing.assert_close(one.weight_range.upper, other.weight_range.upper, rtol=1e-5, atol=0)
        torch.testing.assert_close(one.activation_range.upper, other.activation_range.upper, rtol=0.03, atol=1e-6)
