"""The train section: schedule by hand, and every bad value named."""

import pytest

from dynq_basicsr.config.adabm import AdaBMOptions, LearningRates, LossWeights
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.range_rules import RangeRules


def options(**changes):
    return AdaBMOptions.from_dict({'total_iter': 400, 'calibration_iter': 50, 'stage_iter': 50, **changes})


def test_defaults_are_those_of_the_paper_where_it_has_any():
    recipe = AdaBMOptions.from_dict({'total_iter': 550, 'warmup_iter': -1})
    assert (recipe.calibration_iter, recipe.stage_iter, recipe.lr_decay) == (50, 50, 0.9)
    assert recipe.stages == ('weight', 'activation', 'mapping') and recipe.bit_aware_clipping
    assert recipe.loss == LossWeights(pixel=1, feature=10, bit=50, target_bits=None)
    assert (recipe.lr.layer, recipe.lr.image) == (0.01, 0.1)


def test_ranges_are_read():
    assert RangeRules.of(options()) == RangeRules()
    given = {'weight_range': 'percentile', 'activation_range': 'density', 'percentile': 2, 'density_mass': 1e-5}
    assert RangeRules.of(options(**given, bit_aware_clipping=False)) == RangeRules(**given)
    assert options(loss={'feature_form': 'attention'}).loss.feature_form == 'attention'


def test_parts_are_read():
    recipe = options(lr={'weight': 0.1}, loss={'bit': 5, 'target_bits': 3.5}, stages=['mapping', 'weight'])
    assert recipe.lr == LearningRates(weight=0.1) and recipe.loss == LossWeights(bit=5, target_bits=3.5)
    assert recipe.stages == ('mapping', 'weight')


@pytest.mark.parametrize('iteration, stage', [
    (1, 'calibration'), (50, 'calibration'), (51, 'weight'), (100, 'weight'), (101, 'activation'), (150, 'activation'),
    (151, 'mapping'), (200, 'mapping'), (201, 'weight'), (350, 'mapping'), (351, 'weight'),
])  # fmt: skip
def test_stages_take_turns_after_calibration(iteration, stage):
    assert options().stage(iteration) == stage


@pytest.mark.parametrize('iteration, finished', [(51, 0), (100, 0), (150, 0), (200, 0), (201, 1), (350, 1), (351, 2)])
def test_each_stage_decays_after_its_own_epochs(iteration, finished):
    assert options(lr_decay=0.5).decay(iteration) == 0.5**finished


@pytest.mark.parametrize(
    'stages', [('weight',), ('activation', 'weight'), ('weight', 'activation', 'weight', 'mapping')]
)
def test_schedule_equals_a_loop_that_counts(stages):
    recipe = options(stages=list(stages), calibration_iter=3, stage_iter=4, lr_decay=0.9)
    finished = dict.fromkeys(stages, 0)
    for epoch in range(10):
        stage = stages[epoch % len(stages)]
        for step in range(4):
            iteration = 3 + 4 * epoch + step + 1
            assert recipe.stage(iteration) == stage
            assert recipe.decay(iteration) == pytest.approx(0.9 ** finished[stage])
        finished[stage] += 1


def test_other_stages_keep_the_rest():
    recipe = options(lr_decay=0.5).with_stages(('weight', 'activation'))
    assert [recipe.stage(i) for i in (51, 101, 151)] == ['weight', 'activation', 'weight']
    assert recipe.decay(151) == 0.5 and recipe.total_iter == 400


@pytest.mark.parametrize('changes, named', [
    ({'optim_g': {'lr': 1}}, "train: unknown option 'optim_g'"),
    ({'calibration_iters': 3}, "'calibration_iters'.*'calibration_iter'"),
    ({'lr': {'weights': 1}}, r"train\.lr: unknown option 'weights'.*'weight'"),
    ({'loss': {'pix': 1}}, r"train\.loss: unknown option 'pix'"),
    ({'lr': {'weight': -0.1}}, r'train\.lr\.weight: must be a number >= 0, not -0\.1'),
    ({'lr': {'image': '1e-3'}}, r"train\.lr\.image: must be a number >= 0, not '1e-3'"),
    ({'loss': {'bit': None}}, r'train\.loss\.bit: must be a number >= 0, not None'),
    ({'stages': ['weights']},
     r"train\.stages: must be a list of at least 1, each one of weight, activation, mapping, joint, not \['weights'\]"),
    ({'stages': []}, r'train\.stages'),
    ({'stages': 'weight'}, r'train\.stages'),
    ({'precision': 'half'}, r"train\.precision: must be one of auto, float32, bfloat16, not 'half'"),
    ({'compile': 'yes'}, r"train\.compile: must be auto, true or false, not 'yes'"),
    ({'total_iter': 0}, r'train\.total_iter: must be a whole number from 1 to 1000000000, not 0'),
    ({'total_iter': '100'}, r'train\.total_iter'),
    ({'calibration_iter': 0}, r'train\.calibration_iter'),
    ({'stage_iter': 2.5}, r'train\.stage_iter: must be a whole number from 1 to 1000000000, not 2\.5'),
    ({'stage_iter': None}, r'train\.stage_iter'),
    ({'calibration_iter': 401}, r'train\.total_iter: 400 iterations are fewer than the 401'),
])  # fmt: skip
def test_each_bad_value_is_named(changes, named):
    with pytest.raises(DynqError, match=named):
        options(**changes)


@pytest.mark.parametrize('changes, named', [
    ({'lr': 0.01}, r'train\.lr'),
    ({'loss': [1, 10, 50]}, r'train\.loss'),
    ({'lr': {'weight': float('nan')}}, r'train\.lr\.weight'),
    ({'loss': {'target_bits': 'four'}}, r'train\.loss\.target_bits'),
    ({'lr_decay': 'slow'}, r'train\.lr_decay'),
    ({'lr_decay': -1}, r'train\.lr_decay'),
    ({'stages': 3}, r'train\.stages'),
    ({'stages': [['weight']]}, r'train\.stages'),
    ({'bit_aware_clipping': 'off please'}, r'train\.bit_aware_clipping'),
    ({'weight_range': 'mse'}, r"train\.weight_range: must be one of omse, minmax, percentile, not 'mse'"),
    ({'activation_range': 'omse'}, r"train\.activation_range: must be one of minmax, percentile, density, not 'omse'"),
    ({'activation_range': ['density']}, r'train\.activation_range: must be one of'),
    ({'percentile': 50}, r'train\.percentile: must be a number from 0 to 49, not 50'),
    ({'percentile': None}, r'train\.percentile'),
    ({'density_mass': 1}, r'train\.density_mass: must be a number from 0 to 0\.5, not 1'),
    ({'density': 1}, r"train: unknown option 'density'.*'density_mass'"),
    ({'loss': {'feature_form': 'map'}}, r"train\.loss\.feature_form: must be one of direction, attention, not 'map'"),
    ({'ranges': {}}, r"train: unknown option 'ranges'"),
    ({'activation_range': 'density'}, r'train\.activation_range: .*set train\.bit_aware_clipping to false'),
    ({'total_iter': True}, r'train\.total_iter'),
])  # fmt: skip
def test_values_of_the_wrong_kind_are_named(changes, named):
    with pytest.raises(DynqError, match=named):
        options(**changes)


def test_the_number_of_iterations_is_needed():
    with pytest.raises(DynqError, match='total_iter'):
        AdaBMOptions.from_dict({'stage_iter': 5})


def test_calibration_alone_is_a_recipe():
    assert options(total_iter=50).stage(50) == 'calibration'


def test_cosine_falls_from_the_full_rate_towards_zero():
    recipe = options(stages=['joint'], lr_schedule='cosine')
    assert recipe.stage(51) == recipe.stage(400) == 'joint'
    assert recipe.decay(51) == 1 and recipe.decay(226) == pytest.approx(0.5)
    rates = [recipe.decay(iteration) for iteration in range(51, 401)]
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 1e-4


@pytest.mark.parametrize('bad, words', [
    ({'lr_schedule': 'linear'}, 'lr_schedule'), ({'patch_size': 4}, 'patch_size'), ({'stages': ['all']}, 'stages'),
    ({'lr': {'rounding': -1}}, 'lr.rounding'),
])  # fmt: skip
def test_bad_values_of_the_schedule_are_named(bad, words):
    with pytest.raises(DynqError, match=words):
        options(**bad)
