"""AdaBM's maps: hard rules, surrogates, calibration."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynq_basicsr.config.policies import AdaBMPolicyOptions
from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.policies.base import AdaptiveBody, BitBudget, CalibrationStatistics
from dynq_basicsr.policies.complexity import gradient_density
from dynq_basicsr.policies.image_layer import MIN_GAP, ImageLayerPolicy, straight_through


def policy(num_layers=3, bits=4, bits_range=(2, 8), thresholds=None, layers=None, **options):
    body = AdaptiveBody(num_layers, ActivationOptions(bits=bits, bits_range=bits_range))
    built = ImageLayerPolicy(body, AdaBMPolicyOptions(**options))
    with torch.no_grad():
        if thresholds is not None:
            built.thresholds.copy_(torch.tensor(thresholds))
        if layers is not None:
            built.layer_factors.copy_(torch.tensor(layers))
    return built


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    soft = torch.tensor([0.25], requires_grad=True)
    result = straight_through(torch.tensor([1.0]), 3 * soft)
    result.sum().backward()
    assert result.item() == 1 and soft.grad.item() == 3


RUNTIME = {}  # what the property needs of fixtures, which hypothesis would count as made for each example


@pytest.fixture(autouse=True)
def runtime(textures, chosen_by_runtime):
    RUNTIME.update(textures=textures, chosen_by_runtime=chosen_by_runtime)


# -- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('complexity, factor', [(0, -1), (9.999, -1), (10, 0), (15, 0), (20, 0), (20.001, 1), (900, 1)])
def test_hard_rule(complexity, factor):
    """Strictly below the lower threshold, strictly above the upper one; both thresholds themselves are in between."""
    assert policy(thresholds=[10.0, 20.0]).image_bits(torch.tensor([float(complexity)])).item() == factor


def test_surrogate_gradient():
    """tanh((c - (u + l) / 2) * 2 / (u - l)), in both thresholds."""
    one = policy(thresholds=[10.0, 18.0])
    complexity = torch.tensor([3.0, 9.0, 12.0, 14.0, 17.0, 40.0])
    upstream = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.5, -1.0])
    (upstream * one.image_bits(complexity)).sum().backward()
    bounds = torch.tensor([10.0, 18.0], requires_grad=True)
    lower, upper = bounds
    (upstream * torch.tanh((complexity - (upper + lower) / 2) * 2 / (upper - lower))).sum().backward()
    torch.testing.assert_close(one.thresholds.grad, bounds.grad)


def test_more_bits_wanted_means_lower_thresholds():
    one = policy(thresholds=[10.0, 20.0])
    (-one.image_bits(torch.tensor([13.0, 16.0]))).sum().backward()  # descent raises the bits
    assert (one.thresholds.grad > 0).all()


@pytest.mark.parametrize('raw', [[20.0, 10.0], [10.0, 10.0], [10.0, 10.01], [-5.0, 3.0]])
def test_thresholds_never_cross(raw):
    lower, upper = policy(thresholds=raw).ordered_thresholds().tolist()
    assert upper - lower >= MIN_GAP * 0.999
    assert lower == raw[0] and (upper == raw[1] or raw[1] < raw[0] + MIN_GAP)


def test_bits_rise_with_complexity_even_where_thresholds_were_pushed_together():
    one = policy(thresholds=[20.0, 10.0])
    factors = one.image_bits(torch.linspace(0, 40, 500)).detach()
    assert (factors.diff() >= 0).all() and set(factors.tolist()) >= {-1, 1}


def test_five_factors():
    one = policy(thresholds=[10.0, 20.0, 30.0, 40.0], image_factors=(-2, -1, 0, 1, 2))
    assert one.image_bits(torch.tensor([5.0, 15, 25, 35, 45])).tolist() == [-2, -1, 0, 1, 2]
    complexity = torch.tensor([8.0, 25.0, 33.0])
    one.image_bits(complexity).sum().backward()
    bounds = torch.tensor([10.0, 40.0], requires_grad=True)
    (2 * torch.tanh((complexity - bounds.mean()) * 2 / (bounds[1] - bounds[0]))).sum().backward()
    torch.testing.assert_close(one.thresholds.grad[[0, 3]], bounds.grad)


def test_uneven_factors_scale_the_surrogate_to_the_outer_ones():
    one = policy(thresholds=[10.0, 20.0], image_factors=(-1, 0, 3))
    assert one.image_bits(torch.tensor([5.0, 15, 25])).tolist() == [-1, 0, 3]
    one.image_bits(torch.tensor([15.0])).sum().backward()
    # d/dl of -1 + 4 (tanh((c - m) 2 / w) + 1) / 2 at the middle: 2 * (-1/2) * 2 / w
    assert one.thresholds.grad.tolist() == pytest.approx([-0.2, -0.2])


def test_two_factors_have_one_threshold():
    one = policy(thresholds=[12.0], image_factors=(0, 1))
    assert one.image_bits(torch.tensor([11.0, 13.0])).tolist() == [0, 1]
    one.image_bits(torch.tensor([11.0, 13.0])).sum().backward()
    assert one.thresholds.grad.item() < 0 and one.thresholds.grad.isfinite().all()


def test_switched_off_images_are_all_alike():
    one = policy(thresholds=[10.0, 20.0], image_to_bit=False)
    assert one.image_bits(torch.tensor([0.0, 99.0])).tolist() == [0, 0]
    assert list(one.parameter_groups()) == ['layer']


# -- layers ----------------------------------------------------------------------------------------------------------


def test_layer_factors_are_rounded_to_three_values():
    raw = [-3.0, -0.51, -0.5, 0.0, 0.5, 0.51, 2.0]
    one = policy(num_layers=7, layers=raw)
    assert one.layer_bits().tolist() == [-1, -1, 0, 0, 0, 1, 1]
    one.layer_bits().sum().backward()
    torch.testing.assert_close(one.layer_factors.grad, 1 - torch.tanh(torch.tensor(raw)) ** 2)


def test_switched_off_layers_are_all_alike():
    one = policy(layers=[-1.0, 0.0, 1.0], layer_to_bit=False)
    assert one.layer_bits().tolist() == [0, 0, 0]
    assert list(one.parameter_groups()) == ['image']


def test_everything_off_learns_nothing():
    one = policy(image_to_bit=False, layer_to_bit=False)
    assert one.parameter_groups() == {} and len(list(one.parameters())) == 2


def test_learned_parameters_by_kind():
    one = policy()
    groups = one.parameter_groups()
    assert {kind: (group.parameters, group.lr) for kind, group in groups.items()} == {
        'layer': ([one.layer_factors], 0.01), 'image': ([one.thresholds], 0.1)
    }  # fmt: skip


# -- together --------------------------------------------------------------------------------------------------------


def test_bits_are_base_plus_image_plus_layer():
    images = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * torch.tensor([0, 0.2, 0.5, 1]).view(
        -1, 1, 1, 1
    )
    complexity = gradient_density(images)
    bounds = [float(complexity[1]) - 0.5, float(complexity[2]) + 0.5]
    one = policy(bits=5, thresholds=bounds, layers=[-1.0, 0.0, 1.0])
    bits = one.decide(images, None)
    assert bits.shape == (3, 4)
    for index, factor in enumerate((-1, 0, 1)):
        assert bits[index].tolist() == [5 - 1 + factor, 5 + factor, 5 + factor, 5 + 1 + factor]


@pytest.mark.parametrize('bits, bits_range, expected', [
    (2, (2, 8), [2, 2, 4]), (8, (2, 8), [6, 8, 8]), (4, (4, 5), [4, 4, 5]), (4, (2, 8), [2, 4, 6])
])  # fmt: skip
def test_bits_are_clamped_to_the_stated_range(bits, bits_range, expected):
    one = policy(bits=bits, bits_range=bits_range, thresholds=[10.0, 20.0])
    summed = one.base + torch.tensor([-2.0, 0.0, 2.0])
    assert one.clamp(summed).tolist() == expected


def test_gradients_reach_both_maps_through_the_decision():
    images = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    one = policy(thresholds=[20.0, 300.0], layers=[0.2, -0.1, 0.0])
    bits = one.decide(images, None)
    (bits[0].sum() + bits[2].sum()).backward()
    assert (one.layer_factors.grad != 0).tolist() == [True, False, True]
    assert (one.thresholds.grad != 0).all()


def test_decisions_per_image_do_not_see_each_other():
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(2)) * torch.tensor([0.1, 0.5, 1]).view(
        -1, 1, 1, 1
    )
    one = policy(thresholds=[30.0, 80.0])
    together = one.decide(images, None)
    assert len(set(together[1].tolist())) > 1
    assert torch.equal(together, torch.cat([one.decide(image.unsqueeze(0), None) for image in images], dim=1))


def test_typical_bits_are_those_of_an_image_of_factor_zero():
    one = policy(bits=4, bits_range=(4, 8), layers=[-1.0, 0.0, 1.0])
    assert one.typical_bits().tolist() == [4, 4, 5] and not one.typical_bits().requires_grad


@pytest.mark.parametrize('options, expected', [
    ({}, (2, 3, 4, 5, 6)),
    ({'image_to_bit': False}, (3, 4, 5)),
    ({'layer_to_bit': False}, (3, 4, 5)),
    ({'image_to_bit': False, 'layer_to_bit': False}, (4,)),
    ({'image_factors': [0, 3]}, (3, 4, 5, 6, 7, 8)),
    ({'bits_range': (4, 5)}, (4, 5)),
])  # fmt: skip
def test_candidates(options, expected):
    assert policy(**options).candidates == expected


def test_the_bit_loss_is_the_excess_where_anything_is_learned():
    bits = torch.tensor([[5.0, 6.0]], requires_grad=True)
    ((name, loss),) = policy().losses(bits, BitBudget(4, 0, torch.tensor(float('nan')))).items()
    assert (name, loss.item()) == ('l_bit', 1.5)
    loss.backward()
    assert bits.grad.tolist() == [[0.5, 0.5]]
    nothing = policy(image_to_bit=False, layer_to_bit=False)
    assert nothing.losses(bits, BitBudget(4, 0, torch.tensor(float('nan')))) == {}


def test_the_measure_is_what_thresholds_are_compared_with(textures):
    assert torch.equal(policy().measure(textures()), gradient_density(textures()))


def test_the_summary_tells_thresholds_and_layers():
    one = policy(bits=4, thresholds=[10.0, 20.0], layers=[-1.0, 0.0, 1.0])
    assert one.summary() == 'Complexity thresholds 10.00, 20.00; layer bits 3 4 5.'


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    base=st.integers(2, 8),
    ends=st.tuples(st.integers(2, 8), st.integers(2, 8)),
    factors=st.lists(st.integers(-4, 4), min_size=2, max_size=5, unique=True).map(sorted),
    places=st.lists(st.integers(0, 22), min_size=4, max_size=4),
    layers=st.lists(st.floats(-2, 2, width=32), min_size=1, max_size=5),
    switches=st.tuples(st.booleans(), st.booleans()),
)
def test_a_runtime_decides_alike(base, ends, factors, places, layers, switches):
    """Through its thresholds and assignments, for images of every complexity."""
    images = RUNTIME['textures']()
    densities = gradient_density(images).sort().values
    between = (densities[1:] + densities[:-1]) / 2
    thresholds = between[places[: len(factors) - 1]].sort().values.tolist()
    one = policy(
        len(layers), base, (min(base, *ends), max(base, *ends)), thresholds, layers, image_factors=factors,
        image_to_bit=switches[0], layer_to_bit=switches[1],
    )  # fmt: skip
    decided = one.decide(images, None).detach()
    configs = one.bit_configs()
    assert len(set(configs.values())) == len(configs)
    assert {tuple(column) for column in decided.T.tolist()} <= set(configs.values())
    assert {bit for bits in configs.values() for bit in bits} <= set(map(float, one.candidates))
    assert torch.equal(RUNTIME['chosen_by_runtime'](one, images), decided)


# -- calibration -----------------------------------------------------------------------------------------------------


def test_calibration_takes_percentiles():
    generator = np.random.default_rng(0)
    complexities, sensitivities = generator.gamma(3, 5, 237).astype(np.float32), generator.random(32).astype(np.float32)
    one = policy(num_layers=32, image_percentile=10, layer_percentile=30)
    one.calibrate(CalibrationStatistics(torch.from_numpy(complexities), torch.from_numpy(sensitivities)))
    assert one.thresholds.tolist() == pytest.approx(np.percentile(complexities, [10, 90]).tolist(), rel=1e-5)
    low, high = np.percentile(sensitivities.astype(np.float64), [30, 70])
    assert one.layer_factors.tolist() == [(s > high) * 1.0 - (s < low) * 1.0 for s in sensitivities]
    # so that the hard rule gives the outer tenths their factors
    hard = one.image_bits(torch.from_numpy(complexities))
    assert [(hard == factor).sum().item() for factor in (-1, 0, 1)] == [24, 189, 24]


def test_calibration_of_five_and_of_two_factors():
    complexities = torch.arange(101.0)
    five = policy(image_factors=(-2, -1, 0, 1, 2), image_percentile=20)
    five.calibrate(CalibrationStatistics(complexities, torch.tensor([1.0, 2.0, 3.0])))
    assert five.thresholds.tolist() == pytest.approx([20, 40, 60, 80])
    two = policy(image_factors=(0, 1))
    two.calibrate(CalibrationStatistics(complexities, torch.tensor([1.0, 2.0, 3.0])))
    assert two.thresholds.tolist() == [50]


def test_calibration_on_images_that_are_all_alike():
    one = policy()
    one.calibrate(CalibrationStatistics(torch.full((5,), 12.0), torch.tensor([1.0, 1.0, 1.0])))
    lower, upper = one.ordered_thresholds().tolist()
    assert lower == 12 and upper >= 12 + 0.99 * MIN_GAP
    assert one.layer_factors.tolist() == [0, 0, 0]
    assert one.image_bits(torch.tensor([12.0])).item() == 0  # neither flatter nor richer than what calibration saw


def test_calibration_with_a_single_image_and_a_single_layer():
    one = policy(num_layers=1)
    one.calibrate(CalibrationStatistics(torch.tensor([7.0]), torch.tensor([0.3])))
    assert one.layer_factors.tolist() == [0] and one.thresholds.isfinite().all()
