"""Granular-DQ's training: what is measured first, what learns, what is saved."""

import random
import shutil
import time
from pathlib import Path

import pytest
import torch
from basicsr.models import build_model

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.granular_model import GranularDQModel
from dynq_basicsr.policies.complexity import entropy, gradient_density
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.training.survey import draw_patches, survey

POLICY = {'type': 'GranularDQ'}


def test_it_is_calibrated_and_measured_before_the_first_iteration(granular_options):
    options = granular_options()
    model = build_model(options)
    policy = model.network.policy
    assert model.network.calibrated and policy.measured
    seen = torch.cat([entropy(patches) for patches in draw_patches(options['datasets']['train'], 24)])
    torch.testing.assert_close(policy.thresholds(), seen.quantile(torch.tensor([0.5, 0.9])), rtol=0, atol=0.05)
    assert policy.candidates == (4, 5, 6, 8)
    steps = model.network.quant_layers()[0].activation_range.log_step
    assert (steps.diff() < 0).all()  # more bits, finer steps


def test_everything_learns_from_l1_alone(granular_options, train, pairs):
    model = build_model(granular_options())
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    train(model, pairs(4))
    assert set(model.log_dict) == {'l_pix', 'bits'}
    still = [name for name, p in model.network.named_parameters() if torch.equal(p, before[name])]
    assert still == []


def test_a_range_for_each_candidate_is_calibrated_and_learns(granular_options, train, pairs):
    options = granular_options({'adapt_iter': 0}, {'type': 'GranularDQ', 'granularity_bits': [8]})
    options['network_g']['quantization']['activation']['quantizer'] = 'learned_range'
    model = build_model(options)
    table = model.network.quant_layers()[1].activation_range
    assert table.candidates.tolist() == [4, 5, 8]
    assert (table.upper.diff() >= 0).all() and table.upper[0] < table.upper[-1]  # fewer bits clip more
    before = table.log_upper.detach().clone()
    train(model, pairs(4))
    assert not torch.equal(table.log_upper, before)


def test_a_teacher_takes_the_place_of_the_ground_truth(granular_options, train, pairs):
    options = granular_options()
    options['train']['teacher'] = options['path']['pretrain_network_g']
    model = build_model(options)
    batch = pairs(1)
    with torch.no_grad():
        target = model.network(batch[0]['lq'], mode=Mode.FLOAT)
    batch[0]['gt'] = batch[0]['gt'] * float('nan')
    train(model, batch)
    torch.testing.assert_close(model.training_target(), target)
    assert not model.training_target().requires_grad
    assert model.gt.isnan().all()  # the data stay as they were
    assert model.log_dict['l_pix'] < 1
    assert not any(key.startswith('teacher') for key in model.network.state_dict())


def test_a_teacher_that_cannot_teach_is_refused_before_anything_is_written(granular_options, train, pairs, tmp_path):
    model = train(build_model(granular_options()), pairs(1))
    model.save(0, 1)
    quantized = f'{model.opt["path"]["models"]}/net_g_1.pth'
    bare = tmp_path / 'bare.pth'  # no description
    torch.save({'params': model.network.state_dict()}, bare)
    for teacher, said in (
        (str(bare), 'train.teacher: .* is a quantized checkpoint; name the float weights'),
        (str(tmp_path / 'none.pth'), 'no such checkpoint; check train.teacher'),
        (quantized, 'train.teacher: .* is a quantized checkpoint; name the float weights'),
        ('', "train.teacher: must be text, or null, not ''"),
        (5, 'train.teacher: must be text, or null, not 5'),
    ):
        with pytest.raises(DynqError, match=said):
            GranularDQModel.check_options(granular_options({'teacher': teacher}))


def test_the_teacher_counts_as_work(granular_options, train, pairs):
    options = granular_options()
    options['train']['teacher'] = options['path']['pretrain_network_g']
    model = build_model(options)
    teacher = model.teacher.forward

    def slow(*args, **options):
        time.sleep(0.3)
        return teacher(*args, **options)

    model.teacher.forward = slow
    train(model, pairs(2))
    assert model.worked > 0.6


def test_each_kind_has_its_rate_and_the_schedule_reaches_all(granular_options, train, pairs):
    model = build_model(granular_options({'lr_range': 0.01, 'lr_gate': 0.002}))
    rates = []
    train(model, pairs(4), watch=lambda iteration, model: rates.append(model.get_current_learning_rate()))
    assert rates[0] == [1e-4, 0.01, 0.002]
    assert rates[-1] == pytest.approx([0.5e-4, 0.005, 0.001])
    assert [group['weight_decay'] for group in model.optimizer_g.param_groups] == [0.01, 0, 0.01]


def test_a_step_goes_down_the_loss(granular_options, train, pairs):
    model = build_model(granular_options({'optim_g': {'type': 'Adam', 'lr': 1e-3}, 'adapt_iter': 0}))
    losses = []
    batch = pairs(1)
    for _ in range(25):
        train(model, batch)
        losses.append(model.log_dict['l_pix'])
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize('adapt_iter, moves', [(0, 0), (2, 2), (9, 4)])
def test_thresholds_follow_batches_for_as_long_as_told(granular_options, train, pairs, adapt_iter, moves):
    model = build_model(granular_options({'adapt_iter': adapt_iter}))
    seen = [model.network.policy.quantiles.clone()]
    train(model, pairs(4), watch=lambda iteration, model: seen.append(model.network.policy.quantiles.clone()))
    assert sum(not torch.equal(one, other) for one, other in zip(seen, seen[1:], strict=False)) == moves


def test_batch_norm_keeps_its_statistics_unless_told(granular_options, train, pairs, tmp_path):
    for freeze in (True, False):
        options = granular_options({'freeze_batch_norm': freeze})
        options['network_g']['backbone'] = {'type': 'SRResNetBN', 'num_feat': 8, 'num_block': 2, 'upscale': 2}
        options['path'] |= {'pretrain_network_g': None}
        model = build_model(options)
        before = model.network.get_buffer('backbone.body.0.bn1.running_mean').clone()
        model.feed_data({'lq': pairs(1)[0]['lq'][:1]})
        model.test()  # validation in between
        train(model, pairs(2))
        after = model.network.get_buffer('backbone.body.0.bn1.running_mean')
        assert torch.equal(before, after) == freeze


def test_the_averaged_network_is_calibrated_as_the_other(granular_options, train, pairs):
    model = build_model(granular_options({'ema_decay': 0.5}))
    assert model.net_g_ema.calibrated
    for name, value in model.network.state_dict().items():
        assert torch.equal(model.net_g_ema.state_dict()[name], value), name
    train(model, pairs(1))
    quantiles = [net.policy.quantiles for net in (model.network, model.net_g_ema)]
    assert torch.equal(*quantiles) and not torch.equal(quantiles[0], torch.tensor([0.5, 0.9]))


def test_what_is_saved_is_what_is_evaluated(granular_options, train, pairs, test_options, loader):
    options = granular_options({'ema_decay': 0.5})
    model = train(build_model(options), pairs(3))
    model.save(0, 3)
    model.validation(loader(), 3, None)
    trained = dict(model.metric_results)
    path = f'{options["path"]["models"]}/net_g_3.pth'
    test = test_options(path, network_g={'type': 'QuantizedSR', 'backbone': None})
    test['path']['param_key_g'] = 'params_ema'
    test['network_g'] = {'type': 'QuantizedSR'}
    tested = build_model(test)
    tested.validation(loader(), 3, None)
    assert tested.metric_results == pytest.approx(trained, rel=1e-6)
    assert 4 <= trained['fab'] <= 8


def test_a_community_network_trains_and_is_tested_without_the_float_file(
    granular_options, train, pairs, test_options, loader, community_checkpoint, tmp_path
):
    float_file = shutil.copy(community_checkpoint, tmp_path)
    options = granular_options()
    options['path']['pretrain_network_g'] = None
    options['network_g']['backbone'] = {'type': 'Spandrel', 'path': str(float_file)}
    model = build_model(options)
    backbone, given = model.network.backbone, torch.load(float_file, weights_only=True)['params']
    assert all(torch.equal(parameter, given[name]) for name, parameter in backbone.named_parameters() if name in given)
    start = {name: parameter.clone() for name, parameter in backbone.named_parameters()}
    train(model, pairs(3))
    layers = [name for name in start if '.ffn.fc' in name]  # two blocks: weights, biases, ranges, steps
    assert len(layers) == 16 and not [name for name in layers if torch.equal(backbone.get_parameter(name), start[name])]
    model.save(0, 3)
    model.validation(loader(), 3, None)
    Path(float_file).unlink()
    test = test_options(f'{options["path"]["models"]}/net_g_3.pth')
    test['network_g'] = {'type': 'QuantizedSR'}
    tested = build_model(test)
    tested.validation(loader(), 3, None)
    assert tested.metric_results == pytest.approx(model.metric_results, rel=1e-6)


def test_a_calibrated_checkpoint_is_not_calibrated_again(granular_options, train, pairs, monkeypatch):
    options = granular_options()
    model = train(build_model(options), pairs(2))
    model.save(0, 2)
    again = granular_options()
    again['path']['pretrain_network_g'] = f'{options["path"]["models"]}/net_g_2.pth'
    monkeypatch.setattr('dynq_basicsr.models.granular_model.draw_patches', None)
    for name, value in build_model(again).network.state_dict().items():
        assert torch.equal(value, model.network.state_dict()[name]), name


def test_from_scratch_and_with_fixed_bits(granular_options, train, pairs):
    options = granular_options(policy={'type': 'Fixed'})
    options['path']['pretrain_network_g'] = None
    options['network_g']['quantization']['activation'] = {'bits': 8, 'quantizer': 'pams'}
    model = train(build_model(options), pairs(2))
    assert model.log_dict['bits'] == 8 and model.network.quant_layers()[0].activation_range.symmetric


def test_entropies_are_measured_once(granular_options, tmp_path, monkeypatch):
    dataset = granular_options()['datasets']['train']
    first = survey(dataset, entropy, 12, tmp_path)
    monkeypatch.setattr('dynq_basicsr.training.survey.draw_patches', None)
    torch.testing.assert_close(survey(dataset, entropy, 12, tmp_path), first, rtol=0, atol=1e-5)
    torch.testing.assert_close(survey(dataset | {'batch_size_per_gpu': 9}, entropy, 12, tmp_path), first, rtol=0,
                               atol=1e-5)  # fmt: skip
    with pytest.raises(TypeError):  # other patches are measured anew
        survey(dataset | {'gt_size': 32}, entropy, 12, tmp_path)
    with pytest.raises(TypeError):  # and so is another measure
        survey(dataset, gradient_density, 12, tmp_path)
    assert survey(dataset, lambda image: None, 12, tmp_path) is None  # where nothing is measured, nothing is drawn


def test_entropies_are_measured_again_where_the_images_were_made_anew(granular_options, photographs, tmp_path):
    images = shutil.copytree(photographs, tmp_path / 'images')
    dataset = granular_options()['datasets']['train']
    dataset |= {'dataroot_gt': str(images / 'HR'), 'dataroot_lq': str(images / 'LR')}
    first = survey(dataset, entropy, 12, tmp_path)
    for kind in ('HR', 'LR'):
        (images / kind / 'chelsea.png').unlink()
    second = survey(dataset, entropy, 12, tmp_path)
    assert second.shape == first.shape and not torch.equal(second, first)


def test_from_scratch_ranges_fit_what_batch_norm_gives_in_training(granular_options, train, pairs):
    """Running statistics of 0 and 1 leave values as small as fresh weights make them; a batch's do not."""
    tops = {}
    for freeze in (True, False):
        options = granular_options({'freeze_batch_norm': freeze})
        options['network_g']['backbone'] = {'type': 'SRResNetBN', 'num_feat': 16, 'num_block': 6, 'upscale': 2}
        options['path'] |= {'pretrain_network_g': None}
        layer = build_model(options).network.quant_layers()[-1]
        tops[freeze] = 255 * layer.activation_range.grid(torch.tensor([8.0]))[0].item()
    assert tops[False] > 1.5 * tops[True]


@pytest.mark.parametrize('workers', [0, 1])
def test_drawing_patches_leaves_random_states_alone(granular_options, workers):
    dataset = granular_options()['datasets']['train'] | {'num_worker_per_gpu': workers}
    torch.manual_seed(1)
    before, python = torch.get_rng_state(), random.getstate()
    first = torch.cat(list(draw_patches(dataset, 20, seed=4)))
    assert first.shape == (20, 3, 32, 32) and torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python
    assert torch.equal(first, torch.cat(list(draw_patches(dataset, 20, seed=4))))
    assert not torch.equal(first, torch.cat(list(draw_patches(dataset, 20, seed=5))))


@pytest.mark.parametrize('changes, named', [
    ({'adapt_iter': -1}, r'train\.adapt_iter: must be a whole number from 0 to 1000000000'),
    ({'entropy_patches': 1}, r'train\.entropy_patches: must be a whole number from 2 to 10000000'),
    ({'lr_range': -1}, r'train\.lr_range'),
    ({'lr_gate': 'x'}, r'train\.lr_gate'),
    ({'precision': 'half'}, r'train\.precision: must be one of auto, float32, bfloat16'),
    ({'freeze_batch_norm': 1}, r'train\.freeze_batch_norm: must be true or false'),
    ({'compile': 'yes'}, r"train\.compile: must be auto, true or false, not 'yes'"),
    ({'compile': 1}, r'train\.compile: must be auto, true or false, not 1'),
])  # fmt: skip
def test_values_that_cannot_be(granular_options, changes, named):
    with pytest.raises(DynqError, match=named):
        GranularDQModel.check_options(granular_options(changes))


def test_a_float_network_is_refused(granular_options, float_checkpoint):
    options = granular_options()
    options['network_g'] = options['network_g']['backbone']
    with pytest.raises(DynqError, match='network_g.type: must be QuantizedSR'):
        build_model(options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU is here')
def test_a_gpu_learns_what_a_cpu_learns(granular_options, train, pairs):
    policy = POLICY | {'granularity_bits': [8]}  # no controller, whose dice fall in another way on each device
    losses = {0: [], 1: []}
    for gpus, found in losses.items():
        torch.manual_seed(0)
        model = build_model(granular_options(policy=policy, num_gpu=gpus))
        assert next(model.network.parameters()).is_cuda == bool(gpus)
        train(model, pairs(4), watch=lambda _, model, found=found: found.append(model.log_dict['l_pix']))
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)  # a GPU may round products to 10 bits (TF32)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU is here')
@pytest.mark.parametrize('quantizer', ['learned_step', 'learned_range', 'pams'])
def test_the_whole_of_it_trains_on_a_gpu(granular_options, train, pairs, quantizer, loader):
    options = granular_options(num_gpu=1)
    options['network_g']['quantization']['activation']['quantizer'] = quantizer
    model = build_model(options)
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    train(model, pairs(4))
    still = [name for name, p in model.network.named_parameters() if torch.equal(p, before[name])]
    assert not [name for name in still if not name.endswith('log_lower')]  # a layer may see no value below zero
    model.validation(loader(), 4, None, False)
    assert 4 <= model.metric_results['fab'] <= 8
