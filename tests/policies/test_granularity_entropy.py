"""Granular-DQ's policy: controller, thresholds, their adaptation, and gradients that reach the gate."""

import pytest
import torch
import torch.nn.functional as F

from dynq_basicsr.config.policies import QUANTILE_GAP, GranularDQPolicyOptions
from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies import granularity_entropy
from dynq_basicsr.policies.base import AdaptiveBody, BitBudget, CalibrationStatistics
from dynq_basicsr.policies.complexity import entropy
from dynq_basicsr.policies.granularity_entropy import GranularityBitController, GranularityEntropyPolicy
from dynq_basicsr.quantization.quantizers.base import place_among
from dynq_basicsr.quantization.quantizers.range_table import RangeTable
from dynq_basicsr.quantization.quantizers.step_table import StepTable

CHANNELS = 16


def policy(distribution=None, **options):
    torch.manual_seed(0)
    body = AdaptiveBody(4, ActivationOptions(bits=8), CHANNELS)
    built = GranularityEntropyPolicy(body, GranularDQPolicyOptions(**options))
    if built.entropy_bits:
        built.set_distribution(torch.linspace(1, 3, 500) if distribution is None else distribution)
    return built.eval()


def images(count=6, side=12):
    torch.manual_seed(2)
    contrast = torch.linspace(0.01, 1, count).view(-1, 1, 1, 1)
    return 0.5 + contrast * (torch.rand(count, 3, side, side) - 0.5)


def features(count=6, height=12, width=12):
    torch.manual_seed(3)
    return torch.randn(count, CHANNELS, height, width) * torch.rand(count, CHANNELS, 1, 1)


@pytest.fixture
def seen_as(monkeypatch):
    """Let images have these entropies."""
    return lambda values: monkeypatch.setattr(granularity_entropy, 'entropy', lambda image: torch.as_tensor(values))


def prefer(one, choice):
    """Let the controller choose this candidate, whatever it sees."""
    one.controller.gate.bias.data.fill_(0)[choice] = 5
    return one


@pytest.mark.parametrize('changes, candidates', [
    ({}, (4, 5, 6, 8)),
    ({'entropy_bits': None}, (4, 6, 8)),
    ({'granularity_bits': [8]}, (4, 5, 8)),
    ({'entropy_bits': [4, 5, 7]}, (4, 5, 6, 7)),
    ({'granularity_bits': [8], 'entropy_bits': None}, (8,)),
])  # fmt: skip
def test_candidates_are_those_of_both_parts(changes, candidates):
    if changes.get('entropy_bits', [0, 0, 0]) is None:
        changes = {**changes, 'entropy_quantiles': []}
    assert policy(**changes).candidates == candidates


def test_fewer_bits_are_the_controllers_and_most_are_handed_out_by_entropy():
    one = policy()
    feature, batch = features(), images()
    expected = one.entropy_to_bit(entropy(batch))
    for choice, bits in ((0, [4.0] * 6), (1, [6.0] * 6), (2, expected.tolist())):
        assert prefer(one, choice).choose(batch, feature).tolist() == bits
    assert set(expected.tolist()) == {4, 5, 8}  # the images are chosen so


def test_entropies_on_a_threshold_get_the_fewer_bits():
    one = policy()
    low, high = one.thresholds().tolist()
    assert (low, high) == pytest.approx((2.0, 2.8), abs=1e-3)
    values = torch.tensor([0.0, low, low + 1e-3, high, high + 1e-3, 9.0])
    assert one.entropy_to_bit(values).tolist() == [4, 4, 5, 5, 8, 8]


def test_thresholds_are_interpolated_quantiles():
    torch.manual_seed(5)
    seen = torch.rand(5000) ** 2 * 3
    one = policy(seen, entropy_bits=[3, 4, 5, 8], entropy_quantiles=[0.333, 0.5, 0.9])
    torch.testing.assert_close(one.thresholds(), seen.quantile(torch.tensor([0.333, 0.5, 0.9])), rtol=0, atol=5e-3)


def test_every_layer_gets_the_same_answer_and_the_controller_is_asked_once():
    one, asked, feature, batch = policy(), [], features(), images()
    one.controller.register_forward_hook(lambda *_: asked.append(1))
    bits = one.decide(batch, feature)
    assert asked == [1] and bits.shape == (4, 6)
    assert torch.equal(bits, one.choose(batch, feature).expand(4, 6))
    for index in range(6):
        assert torch.equal(one.decide(batch[index : index + 1], feature[index : index + 1]), bits[:, index : index + 1])


def test_evaluation_is_deterministic_and_samples_are_independent():
    one, feature, batch = policy(), features(), images()
    one.controller.gate.weight.data.normal_()
    together = one.choose(batch, feature)
    assert torch.equal(together, one.choose(batch, feature))
    for index in range(6):
        alone = one.choose(batch[index : index + 1], feature[index : index + 1])
        assert alone.item() == together[index].item()


def test_training_draws_from_the_softmax_of_the_logits():
    one = policy(entropy_bits=None, entropy_quantiles=[]).train()
    one.controller.gate.bias.data = torch.tensor([0.0, 1.0, 2.0])
    torch.manual_seed(0)
    feature = features(1).expand(4000, -1, -1, -1)
    bits = one.choose(images(1).expand(4000, -1, -1, -1), feature).detach()
    shares = [(bits == candidate).float().mean().item() for candidate in (4, 6, 8)]
    assert shares == pytest.approx(torch.tensor([0.0, 1.0, 2.0]).softmax(0).tolist(), abs=0.03)
    assert set(bits.tolist()) == {4.0, 6.0, 8.0}  # exactly: the step of each is looked up by them


def test_granularities_differ_by_their_normalisation():
    controller = GranularityBitController(CHANNELS, 3, 3)
    seen = []
    controller.gate.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    controller(features())
    fine, middle, coarse = seen[0].chunk(3, dim=1)
    assert not torch.allclose(fine, middle, rtol=0.05) and not torch.allclose(middle, coarse, rtol=0.05)


@pytest.mark.parametrize('height, width', [(1, 1), (1, 7), (5, 2), (97, 33)])
def test_any_size_of_patch(height, width):
    assert torch.isfinite(GranularityBitController(CHANNELS, 3, 3)(features(2, height, width))).all()


def test_thresholds_follow_the_batch_by_equation_10(seen_as):
    one = policy(threshold_momentum=0.9).train()
    seen_as([1.5, 2.5, 2.9])
    place = [(threshold - 1.5) / 1.4 for threshold in (2.0, 2.8)]
    expected = [0.9 * t + 0.1 * min(max(p, 0), 1) for t, p in zip((0.5, 0.9), place, strict=True)]
    one.adapt(images(3))
    assert one.quantiles.tolist() == pytest.approx(expected, abs=1e-3)


def test_nothing_moves_where_no_layer_adapts():
    one = GranularityEntropyPolicy(AdaptiveBody(0, ActivationOptions(), CHANNELS), GranularDQPolicyOptions())
    before = one.quantiles.clone()
    one.adapt(images(3))
    assert torch.equal(one.quantiles, before)


@pytest.mark.parametrize('momentum', [0.0, 0.5])
@pytest.mark.parametrize('batch', [[1.0, 1.01], [2.99, 3.0], [2.39, 2.41], [2.0, 2.0]])
def test_thresholds_never_cross(batch, momentum, seen_as):
    one = policy(threshold_momentum=momentum)
    seen_as(batch)
    for _ in range(200):
        one.adapt(images(2))
        lower, upper = one.quantiles.tolist()
        assert lower + QUANTILE_GAP <= upper + 1e-6
        low, high = one.thresholds().tolist()
        assert low <= high and torch.isfinite(one.quantiles).all()


def test_of_many_quantiles_none_comes_too_near_to_another(seen_as):
    """As the plain loop: each at least so far above the one before, those that are apart left alone."""
    generator = torch.Generator().manual_seed(0)
    one = policy(entropy_bits=[2, 3, 4, 5, 8], entropy_quantiles=[0.2, 0.4, 0.6, 0.8], threshold_momentum=0.3)
    for _ in range(100):
        batch = (1 + 2 * torch.rand(2, generator=generator) ** 3).sort().values
        seen_as(batch)
        place = ((one.thresholds() - batch[0]) / (batch[1] - batch[0])).clamp(0, 1)
        expected = (0.3 * one.quantiles + 0.7 * place).tolist()
        for index in range(1, 4):
            expected[index] = max(expected[index], expected[index - 1] + QUANTILE_GAP)
        one.adapt(images(2))
        assert one.quantiles.tolist() == pytest.approx(expected, abs=1e-5)
        assert (one.quantiles.diff() >= QUANTILE_GAP - 1e-6).all()


@pytest.mark.parametrize('options, moves', [
    ({}, True), ({'adaptive_thresholds': False}, False), ({'entropy_bits': None, 'entropy_quantiles': []}, False)
])  # fmt: skip
def test_thresholds_move_only_when_told_to_adapt_and_only_where_they_may(options, moves):
    one, feature, before = policy(threshold_momentum=0.5, **options), features(), None
    before = one.quantiles.clone()
    for training in (True, False):
        one.train(training).decide(images(), feature)
        assert torch.equal(one.quantiles, before)
    one.adapt(images())
    assert torch.equal(one.quantiles, before) != moves


def test_a_batch_of_one_moves_nothing(seen_as):
    one = policy(threshold_momentum=0.5)
    before = one.quantiles.clone()
    seen_as([2.2])
    one.adapt(images(1))
    assert torch.equal(one.quantiles, before)


def test_neither_adapting_nor_deciding_reads_from_the_device(no_host_reads):
    one, batch, feature = policy(threshold_momentum=0.5), images(), features()
    for training in (True, False):
        one.train(training)
        before = one.quantiles.clone()
        with no_host_reads():
            one.adapt(batch)
            one.decide(batch, feature)
        assert not torch.equal(one.quantiles, before)


def test_calibration_takes_the_distribution_of_what_it_measures():
    one, other = policy(), policy()
    measures = one.measure(images(40))
    assert torch.equal(measures, entropy(images(40)))
    one.calibrate(CalibrationStatistics(measures, torch.ones(4)))
    other.set_distribution(measures)
    assert torch.equal(one.entropies, other.entropies) and not torch.equal(one.entropies, policy().entropies)
    one.calibrate(CalibrationStatistics(torch.empty(0), torch.ones(4)))
    assert torch.equal(one.entropies, other.entropies)
    assert policy(entropy_bits=None, entropy_quantiles=[]).measure(images()) is None


@pytest.mark.parametrize('options', [
    {}, {'entropy_bits': None, 'entropy_quantiles': []}, {'granularity_bits': [8]},
    {'granularity_bits': [8], 'entropy_bits': None, 'entropy_quantiles': []},
    {'granularity_bits': [3, 6], 'entropy_bits': [2, 4, 6, 7, 8], 'entropy_quantiles': [0.1, 0.4, 0.7, 0.9]},
])  # fmt: skip
@pytest.mark.parametrize('seed', range(4))
def test_a_runtime_decides_alike(options, seed, textures, chosen_by_runtime):
    batch = textures(32, seed=seed)
    one = policy(entropy(textures(64, seed=seed + 10)), **options)
    feature = torch.randn(32, CHANNELS, 12, 12, generator=torch.Generator().manual_seed(seed))
    feature = feature * torch.linspace(0.1, 3, CHANNELS).view(1, -1, 1, 1)
    if one.controller is not None:
        torch.nn.init.normal_(one.controller.gate.weight, std=9, generator=torch.Generator().manual_seed(seed))
    decided = one.decide(batch, feature).detach()
    assert decided.shape == (4, 32) and one.runtime_module is one.controller
    configs = one.bit_configs()
    assert set(configs.values()) == {(float(bits),) * 4 for bits in one.candidates}
    assert {tuple(column) for column in decided.T.tolist()} <= set(configs.values())
    assert len(set(decided.flatten().tolist())) > 1 or len(one.candidates) == 1
    assert torch.equal(chosen_by_runtime(one, batch, feature), decided)


def smooth_steps(table, bits, x):
    """``StepTable.quantize`` around ``bits`` as a smooth function: rounding adds the error that it made there."""
    logs, candidates = table.log_step.detach(), table.candidates
    slope = torch.gradient(logs, spacing=(candidates,))[0][place_among(bits, candidates)].view(-1, 1, 1, 1)
    step, most = table.grid(bits)[0].view(-1, 1, 1, 1), (2 ** (bits - 1)).view(-1, 1, 1, 1)
    place = x / step
    below, above, error = place < -most, place > most - 1, place.round() - place

    def quantize(moved):
        size = step * (slope * (moved - bits).view(-1, 1, 1, 1)).exp()
        half = (2 ** (moved - 1)).view(-1, 1, 1, 1)
        return size * torch.where(below, -half, torch.where(above, half - 1, x / size + error))

    return quantize


def smooth_ranges(table, bits, x):
    """``RangeTable.quantize`` likewise, of ranges that stay."""
    place = place_among(bits, table.candidates)
    lower, upper = (one[place].view(-1, 1, 1, 1) for one in (table.lower, table.upper))

    def grid(moved):
        size = (upper - lower) / (2 ** moved.view(-1, 1, 1, 1) - 1)
        return size, -lower / size, (upper - lower) / size

    size, zero, top = grid(bits)
    shift, place = zero.round() - zero, x / size
    below, above, error = place < -zero.round(), place > top - zero.round(), place.round() - place

    def quantize(moved):
        size, zero, top = grid(moved)
        zero = zero + shift
        return size * torch.where(below, -zero, torch.where(above, top - zero, x / size + error))

    return quantize


def double_table(kind, candidates):
    table = kind(candidates).double()
    sizes = torch.tensor([0.2, 0.06, 0.016], dtype=torch.float64)
    if kind is StepTable:
        table.set(sizes, signed=True)
    else:
        table.set(-7.3 * sizes * torch.tensor([1, 3, 9]), 6.1 * sizes * torch.tensor([1, 4, 16]))
    return table


@pytest.mark.parametrize('kind, smooth_of', [(StepTable, smooth_steps), (RangeTable, smooth_ranges)])
def test_gradients_reach_the_gate(kind, smooth_of):
    """Against finite differences of the smooth function that the straight-through gradient belongs to.

    Around the point of the forward, rounding is replaced by adding the rounding error found there, and the choice by
    the softmax of the same noise.
    """
    one = policy(entropy_bits=None, entropy_quantiles=[], temperature=0.7).double().train()
    one.controller.gate.weight.data.normal_(std=0.3)
    table = double_table(kind, one.candidates)
    torch.manual_seed(7)
    feature, batch = features(4).double(), images(4).double()
    x = torch.randn(4, 5, 3, 3, dtype=torch.float64)
    weights = torch.randn_like(x)

    torch.manual_seed(11)
    bits = one.choose(batch, feature)
    loss = (table.quantize(x, table.grid(bits)) * weights).sum()
    gate = one.controller.gate
    (grad,) = torch.autograd.grad(loss, gate.bias)

    torch.manual_seed(11)
    noise = -torch.empty(4, 3, dtype=torch.float64).exponential_().log()
    values = torch.tensor([4.0, 6.0, 8.0], dtype=torch.float64)
    bits = bits.detach()
    quantize = smooth_of(table, bits, x)
    soft = ((one.controller(feature) + noise) / 0.7).softmax(1).detach()

    @torch.no_grad()
    def smooth(bias):
        logits = one.controller(feature) - gate.bias + bias
        moved = bits + (((logits + noise) / 0.7).softmax(1) - soft) @ values
        return (quantize(moved) * weights).sum().item()

    for index in range(3):
        change = torch.zeros(3, dtype=torch.float64)
        change[index] = 1e-6
        slope_found = (smooth(gate.bias + change) - smooth(gate.bias - change)) / 2e-6
        assert grad[index].item() == pytest.approx(slope_found, rel=1e-4, abs=1e-8)
    assert grad.abs().max() > 1e-3


def test_a_loss_that_wants_more_bits_teaches_the_last_choice_whatever_entropy_makes_of_it():
    one = policy(torch.linspace(90, 100, 500)).train()  # every patch is below the first threshold
    torch.manual_seed(5)
    bits = one.choose(images(64), features(64))
    assert set(bits.tolist()) == {4, 6}
    (-bits).sum().backward()
    assert one.controller.gate.bias.grad[-1] < 0 < one.controller.gate.bias.grad[0]


def test_gradients_of_all_of_the_controller_are_there():
    one = policy().train()
    one.controller.gate.weight.data.normal_()
    feature, batch = features(), images()
    one.choose(batch, feature).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in one.parameter_groups()['gate'].parameters)


@pytest.mark.parametrize('activation, named', [
    (ActivationOptions(bits=8, bits_range=[5, 8]), r'bits \[4, 5, 6, 8\] are not all within .*bits_range, \[5, 8\]'),
    (ActivationOptions(bits=6, bits_range=[2, 6]), r'are not all within .*bits_range, \[2, 6\]'),
    (ActivationOptions(bits=32), r'activations are float \(quantization\.activation\.bits: 32\)'),
])  # fmt: skip
def test_activations_that_it_has_no_bits_for(activation, named):
    with pytest.raises(DynqError, match=named):
        GranularityEntropyPolicy(AdaptiveBody(4, activation, CHANNELS))
    GranularityEntropyPolicy(AdaptiveBody(0, ActivationOptions(bits=32), CHANNELS))  # of a float network


def test_the_controller_of_a_narrow_network_is_not_blind():
    gate = GranularityBitController(4, 2, 3)
    torch.nn.init.normal_(gate.gate.weight)
    with torch.no_grad():
        logits = gate(torch.stack([torch.rand(4, 12, 12), torch.rand(4, 12, 12) * torch.arange(4).view(4, 1, 1)]))
    assert (logits[0] - logits[1]).abs().max() > 0.1


def test_not_measured_is_told():
    one = GranularityEntropyPolicy(AdaptiveBody(4, ActivationOptions(bits=8), CHANNELS))
    assert not one.measured and policy().measured
    with pytest.raises(DynqError, match='never measured'):
        one.bit_configs()
    assert F.softmax(one.controller(features()), dim=1)[:, -1].min() > 0.7  # most patches begin with the most bits


def test_what_is_learned_and_what_is_said():
    one = policy()
    group = one.parameter_groups()['gate']
    assert group.lr == 1e-4 and list(map(id, group.parameters)) == list(map(id, one.controller.parameters()))
    assert one.summary() == 'Entropy thresholds: 2.000 nats (quantile 0.500), 2.800 nats (quantile 0.900).'
    alone = policy(granularity_bits=[8], entropy_bits=None, entropy_quantiles=[])
    assert alone.parameter_groups() == {} and alone.summary() == '' and not alone.needs_shallow
    bits = one.decide(images(), features())
    assert one.losses(bits, BitBudget(4, 0, torch.tensor(float('nan')))) == {}, 'its loss is the distance alone'
    assert one.typical_bits().tolist() == [8.0] * 4
