"""The static baselines: their option files' recipes, on a tiny network."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from basicsr.models import build_model

from dynq_basicsr.config.adabm import AdaBMOptions
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.training.feature_matching import attention_loss

OPTIONS = Path(__file__).parents[2] / 'options'
FILES = ('minmax', 'percentile', 'minmax_ft', 'percentile_ft', 'ptq4sr')


def option_file(name):
    return yaml.safe_load((OPTIONS / f'{name}_srresnet_x4_fq_w4a4.yml').read_text())


def shortened(train_options, name):
    """The file's own switches, with one iteration where it has fifty."""
    train = option_file(name)['train']
    for key in {'total_iter', 'calibration_iter', 'stage_iter'} & train.keys():
        train[key] //= 50
    train['precision'] = 'float32'
    options = train_options()
    options['train'] = train
    options['network_g']['policy'] = option_file(name)['network_g']['policy']
    options['network_g']['quantization']['weight'] = option_file(name)['network_g']['quantization']['weight']
    return options


@pytest.mark.parametrize('name', FILES)
def test_option_files_are_static_recipes(name):
    opt = option_file(name)
    recipe = AdaBMOptions.from_dict(opt['train'])
    assert opt['network_g']['policy'] == {'type': 'Fixed'} and not recipe.bit_aware_clipping
    assert opt['network_g']['quantization']['scope'] == 'full'
    rule = name.removesuffix('_ft')
    expected = ('minmax', 'density') if name == 'ptq4sr' else (rule, rule)
    assert (recipe.weight_range, recipe.activation_range) == expected


@pytest.mark.parametrize('name', ['minmax_ft', 'percentile_ft'])
def test_fine_tuned_baselines_have_the_schedule_of_adabm(name):
    ours, theirs = option_file(name)['train'], option_file('adabm')['train']
    same = ('total_iter', 'calibration_iter', 'stages', 'patch_size', 'lr_schedule', 'precision')
    assert {key: ours[key] for key in same} == {key: theirs[key] for key in same}
    assert ours['lr'].items() <= theirs['lr'].items() and ours['loss'].items() <= theirs['loss'].items()


@pytest.mark.parametrize('name, iterations', [('minmax', 0), ('percentile', 0), ('ptq4sr', 500)])
def test_how_long_the_others_learn(name, iterations):
    recipe = AdaBMOptions.from_dict(option_file(name)['train'])
    assert recipe.total_iter - recipe.calibration_iter == iterations


def test_ptq4sr_learns_activations_for_250_iterations_and_then_weights():
    recipe = AdaBMOptions.from_dict(option_file('ptq4sr')['train'])
    stages = [recipe.stage(iteration) for iteration in range(51, 551)]
    assert stages == ['activation'] * 250 + ['weight'] * 250
    for first, last in ((51, 300), (301, 550)):
        assert recipe.decay(first) == 1 and recipe.decay(last) == pytest.approx(2e-3 / 5e-3, rel=0.03)


@pytest.mark.parametrize('name', FILES)
def test_each_recipe_runs_from_calibration_to_figures(name, train_options, test_options, train, batches, loader):
    logs, stages = [], []

    def watch(iteration, model):
        logs.append(dict(model.get_current_log()))
        stages.append(model.recipe.stage(iteration))

    options = shortened(train_options, name)
    total = options['train']['total_iter']
    model = train(options, batches(total), watch=watch)
    assert stages == ['calibration'] + {
        'ptq4sr': ['activation'] * 5 + ['weight'] * 5,
        'minmax_ft': ['joint'] * 3,
        'percentile_ft': ['joint'] * 3,
    }.get(name, [])
    for log in logs[1:]:
        assert set(log) == {'l_pix', 'l_skt', 'bits'} and log['bits'] == 4
        assert all(torch.tensor(value).isfinite() for value in log.values())
    model.save(-1, -1)
    model.validation(loader(), total, None, False)
    assert model.metric_results['fab'] == 4 and model.metric_results['psnr'] > 0
    checkpoint = model.opt['path']['models'] + '/net_g_latest.pth'
    tester = build_model(test_options(checkpoint, network_g=options['network_g']))
    tester.validation(loader(), 'test', None, False)
    assert tester.metric_results == model.metric_results


@pytest.mark.parametrize('name, mapping', [('minmax', 'max'), ('percentile', 'inside')])
def test_ranges_follow_the_file(name, mapping, train_options, train, batches):
    model = train(shortened(train_options, name), batches(1))
    for layer in model.network.quant_layers():
        largest = layer.weight.abs().max()
        if mapping == 'max':
            torch.testing.assert_close(layer.weight_range.upper, largest)
        else:
            assert 0 < layer.weight_range.upper < largest


def test_the_feature_term_takes_the_form_of_the_file(train_options, train, batches):
    options = shortened(train_options, 'ptq4sr')
    model = train(options, batches(1))
    lq, features = batches(2)[1]['lq'], {True: [], False: []}
    hooks = [
        block.register_forward_hook(lambda m, x, y: features[model.network.holder.run.mode is Mode.TRAINING].append(y))
        for block in model.network.backbone.body
    ]
    with torch.no_grad():
        output, target = (model.network(lq, mode=mode) for mode in (Mode.TRAINING, Mode.FLOAT))
    for hook in hooks:
        hook.remove()
    train(model, [{'lq': lq}], start=2)
    found = model.get_current_log()
    assert found['l_pix'] == pytest.approx(255 * F.l1_loss(output, target).item(), rel=1e-4)
    assert found['l_skt'] == pytest.approx(5 * attention_loss(features[True], features[False]).item(), rel=1e-4)
