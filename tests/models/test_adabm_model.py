"""AdaBM through BasicSR's loop: what moves, what stays, what is saved."""

import pytest
import torch
import torch.nn.functional as F
from basicsr.models import build_model

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.adabm_model import AdaBMModel
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.run import Mode

KINDS = {'weight': 'weight_range', 'activation': 'activation_range', 'mapping': 'policy'}


def kinds_that_moved(before, after):
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    return {next((kind for kind, word in KINDS.items() if word in name), name) for name in moved}


def snapshot(model):
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def test_each_stage_moves_its_own_parameters_alone(train_options, train, batches):
    states, losses = [], []

    def watch(iteration, model):
        states.append(snapshot(model))
        losses.append(dict(model.get_current_log()))

    model = train(train_options(), batches(8), watch=watch)
    assert kinds_that_moved(states[0], states[1]) == {'weight', 'activation', 'mapping', '_extra_state'}
    for before, after, stage in zip(states[1:-1], states[2:], 2 * ['weight', 'activation', 'mapping'], strict=True):
        assert kinds_that_moved(before, after) == {stage}
    assert losses[0] == {} and all(set(loss) >= {'l_pix', 'l_skt', 'bits'} for loss in losses[2:])
    assert all(('l_bit' in loss) == (index % 3 == 2) for index, loss in enumerate(losses[2:]))
    assert all(torch.tensor(list(loss.values())).isfinite().all() for loss in losses[2:])
    assert list(model.seconds) == ['calibration', 'weight', 'activation', 'mapping']


def test_the_networks_own_weights_stay(train_options, train, batches, float_checkpoint):
    model = train(train_options(), batches(8))
    own = model.network.backbone.state_dict()
    for key, value in torch.load(float_checkpoint, weights_only=True)['params'].items():
        assert torch.equal(own[key], value)


def test_losses_are_the_papers_on_the_0_to_255_scale(train_options, train, batches):
    """L_pix + 10 L_skt + 50 max(mean bits - base, 0), blocks as taps, teacher: the network switched off."""
    model = train(train_options(), batches(4))
    with torch.no_grad():
        model.network.policy.layer_factors.fill_(1)  # so that the bit loss has something to say
        lq = batches(5)[4]['lq']
        features = {True: [], False: []}
        hooks = [
            block.register_forward_hook(
                lambda m, x, y: features[model.network.holder.run.mode is Mode.TRAINING].append(y)
            )
            for block in model.network.backbone.body
        ]
        output, bits, told = model.network(lq, mode=Mode.TRAINING, details=True)
        target = model.network(lq, mode=Mode.FLOAT)
        for hook in hooks:
            hook.remove()
        assert torch.equal(target, model.network.backbone(lq)) and not torch.equal(target, output)
        assert [id(one) for one in told] == [id(one) for one in features[True]]
        skt = 0
        for ours, theirs in zip(features[True], features[False], strict=True):
            for one, other in zip(ours, theirs, strict=True):
                skt += (one / one.norm() - other / other.norm()).norm() / (2 * 2)
        bits = torch.stack([one.mean() for one in bits]).mean()
    train(model, [{'lq': lq}], start=5)
    assert model.recipe.stage(5) == 'mapping'
    found = model.get_current_log()
    assert found['l_pix'] == pytest.approx(255 * F.l1_loss(output, target).item(), rel=1e-4)
    assert found['l_skt'] == pytest.approx(10 * skt.item(), rel=1e-4)
    assert found['bits'] == pytest.approx(bits.item()) and bits > 4
    assert found['l_bit'] == pytest.approx(50 * (bits.item() - 4), rel=1e-5)


def test_scope_full_learns_the_ends_too_and_compares_the_same_blocks(train_options, train, batches, tapped):
    options = train_options()
    body = build_model(options).network
    assert tapped(body) == list(body.backbone.body)
    options['network_g']['quantization']['scope'] = 'full'
    states = []
    model = train(options, batches(8), watch=lambda i, m: states.append(snapshot(m)))
    assert len(model.network.backbone.body) == 2 and tapped(model.network) == list(model.network.backbone.body)
    moved = {name for name in states[1] if not torch.equal(states[1][name], states[-1][name])}
    for name in ('conv_first', 'upsample.0', 'conv_last', 'conv_after_body', 'body.0.conv1'):
        assert {f'backbone.{name}.weight_range.log_upper', f'backbone.{name}.activation_range.log_upper'} <= moved
    assert model.network.policy.layer_factors.shape == (5,)


def test_mean_bits_leave_static_layers_out(train_options, train, batches):
    options = train_options()
    options['network_g']['policy'] = {'type': 'Fixed'}
    options['network_g']['quantization']['scope'] = 'full'
    assert train(options, batches(4)).get_current_log()['bits'] == 4


def test_fine_tuning_lowers_the_pixel_loss(train_options, train, batches):
    batch = batches(1)[0]
    losses = []
    options = train_options(train={'total_iter': 42, 'stages': ['weight', 'activation'], 'stage_iter': 10})
    train(options, [batch] * 42, watch=lambda i, m: losses.append(m.get_current_log().get('l_pix')))
    assert sum(losses[-5:]) < 0.95 * sum(losses[2:7])


def test_learning_rates_follow_the_schedule(train_options, train, batches):
    rates = []
    options = train_options(train={'lr': {'weight': 0.4, 'image': 0.2, 'layer': 0.1}, 'lr_decay': 0.5})
    train(options, batches(8), watch=lambda i, m: rates.append(m.get_current_learning_rate()))
    assert rates[:3] == [[0.0], [0.0], [0.4]] and rates[5] == [0.2]
    assert rates[4] == [0.1, 0.2] and rates[7] == [0.05, 0.1]


@pytest.mark.parametrize('policy, stages', [
    ({'type': 'AdaBM'}, ['weight', 'activation', 'mapping']),
    ({'type': 'AdaBM', 'image_to_bit': False}, ['weight', 'activation', 'mapping']),
    ({'type': 'AdaBM', 'layer_to_bit': False}, ['weight', 'activation', 'mapping']),
    ({'type': 'AdaBM', 'image_to_bit': False, 'layer_to_bit': False}, ['weight', 'activation']),
    ({'type': 'Fixed'}, ['weight', 'activation']),
])  # fmt: skip
def test_maps_can_be_switched_off_one_by_one(train_options, train, batches, policy, stages):
    options = train_options()
    options['network_g']['policy'] = policy
    seen = []
    model = train(options, batches(8), watch=lambda i, m: seen.append(m.recipe.stage(i)))
    assert seen == ['calibration'] * 2 + (stages * 6)[:6]
    bits = model.network(batches(6)[5]['lq'], details=True).bits.expand(-1, 2)
    assert len(bits) == 4
    if not policy.get('layer_to_bit', policy['type'] == 'AdaBM'):
        assert (bits == bits[0]).all()
    if not policy.get('image_to_bit', policy['type'] == 'AdaBM'):
        assert (bits == bits[:, :1]).all()


def test_bit_aware_clipping_can_be_switched_off(train_options, train, batches):
    ranges = {}
    for clipping in (True, False):
        options = train_options(train={'total_iter': 2, 'bit_aware_clipping': clipping})
        model = train(options, batches(2))
        ranges[clipping] = torch.stack([layer.activation_range.upper for layer in model.network.quant_layers()])
    assert (ranges[True] < ranges[False]).all()


def test_fine_tuning_can_be_left_out(train_options, train, batches):
    model = train(train_options(train={'total_iter': 2}), batches(2))
    model.save(-1, -1)
    saved = torch.load(model.opt['path']['models'] + '/net_g_latest.pth', weights_only=True)
    assert saved['params']['_extra_state'] and saved['description'] == model.network.description


@pytest.mark.parametrize('quantization', [{'weight': {'bits': 4}}, {'activation': {'bits': 4}}])
@pytest.mark.parametrize('policy', ['Fixed', 'AdaBM'])
def test_weights_or_activations_alone(train_options, train, batches, quantization, policy):
    options = train_options()
    options['network_g'] |= {'quantization': quantization, 'policy': {'type': policy}}
    model = train(options, batches(8))
    assert all(value.isfinite().all() for value in model.network.state_dict().values())


@pytest.mark.parametrize('stages', [['mapping'], ['weight', 'mapping']])
def test_stages_that_have_nothing_to_learn(train_options, train, batches, stages):
    options = train_options(train={'stages': stages})
    options['network_g']['policy'] = {'type': 'Fixed'}
    if stages == ['mapping']:
        with pytest.raises(DynqError, match=r'stages'):
            train(options, batches(8))
    else:
        train(options, batches(8))


def test_quantized_layers_are_found_by_what_they_are(train_options):
    """Names such as conv_after_body must not make a weight learnable."""
    model = build_model(train_options())
    learnable = {id(p) for one in model.optimizers for group in one.param_groups for p in group['params']}
    own = {id(m.weight) for m in model.network.modules() if isinstance(m, torch.nn.Conv2d)}
    own |= {id(m.bias) for m in model.network.modules() if isinstance(m, torch.nn.Conv2d)}
    layers = [m for m in model.network.modules() if isinstance(m, QuantLayer)]
    assert not learnable & own and len(learnable) == 3 * len(layers) + 2


@pytest.mark.parametrize('asked', ['log', 'save', 'validation', 'next stage'])
def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_what_was_saved(
    train_options, train, batches, loader, tmp_path, asked
):
    """The first such iteration is named even where others followed; what is on the disk stays, to the byte."""
    model = train(train_options(train={'stages': ['weight', 'joint'], 'stage_iter': 5, 'total_iter': 9}), batches(3))
    model.save(0, 3)
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert {path.name for path in before} == {'net_g_3.pth', '3.state', 'layers.txt'}
    broken = {'lq': batches(1)[0]['lq'].clone()}
    broken['lq'][0, 0, 0, 0] = float('nan')
    train(model, [*batches(1), broken, *batches(2)], start=4)
    ask = {
        'log': model.get_current_log,
        'save': lambda: model.save(0, 7),
        'validation': lambda: model.validation(loader(), 7, None, False),
        'next stage': lambda: train(model, batches(1), start=8),
    }
    with pytest.raises(DynqError, match=r'The loss l_pix was not finite in iteration 5\. .*net_g_3\.pth.*train\.lr'):
        ask[asked]()
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


def test_float_weights_that_are_not_finite_stop_calibration(train_options, train, batches, float_checkpoint, tmp_path):
    state = torch.load(float_checkpoint, weights_only=True)
    state['params']['conv_first.weight'][0, 0, 0, 0] = float('nan')
    torch.save(state, tmp_path / 'damaged.pth')
    with pytest.raises(DynqError, match='NaN or infinity'):
        train(train_options(path={'pretrain_network_g': str(tmp_path / 'damaged.pth')}), batches(3))


@pytest.mark.parametrize('changes, named', [
    ({'network_g': {'quantization': {'weight': {'bits': 32}, 'activation': {'bits': 32}}}}, 'below 32 bits'),
    ({'path': {'pretrain_network_g': None}}, 'path.pretrain_network_g'),
    ({'train': {'calibration_iters': 3}}, "train: unknown option 'calibration_iters'"),
    ({'val': {'patch_sizes': 3}}, "val: unknown option 'patch_sizes'"),
])  # fmt: skip
def test_options_that_cannot_work(train_options, changes, named):
    with pytest.raises(DynqError, match=named):
        build_model(train_options(**changes))


def test_a_float_network_cannot_be_calibrated(train_options):
    options = train_options()
    options['network_g'] = options['network_g']['backbone']
    with pytest.raises(DynqError, match='network_g.type: must be QuantizedSR'):
        build_model(options)


def test_an_end_without_calibration_is_an_error(train_options):
    with pytest.raises(DynqError, match='ended before calibration did'):
        build_model(train_options()).save(-1, -1)


def test_float_activations_have_no_bit_loss(train_options, train, batches):
    options = train_options()
    options['train'] |= {'stages': ['joint'], 'loss': {'target_bits': 3}}
    options['network_g']['quantization']['activation']['bits'] = 32
    assert 'l_bit' not in train(options, batches(4)).get_current_log()


def test_a_joint_stage_moves_everything_at_once(train_options, train, batches, float_checkpoint):
    options = train_options()
    options['train'] |= {'stages': ['joint'], 'lr_schedule': 'cosine'}
    options['network_g']['quantization']['weight']['rounding'] = 'learned'
    states, losses = [], []

    def watch(iteration, model):
        states.append(snapshot(model))
        losses.append(dict(model.get_current_log()))

    model = train(options, batches(5), watch=watch)
    assert list(model.seconds) == ['calibration', 'joint'] and 'l_bit' in losses[-1]
    assert kinds_that_moved(states[1], states[2]) == {'weight', 'activation', 'mapping'}
    offsets = [name for name in states[-1] if name.endswith('.offset')]
    assert len(offsets) == 4 and all(not states[1][name].any() and states[-1][name].any() for name in offsets)
    own = model.network.backbone.state_dict()
    for key, value in torch.load(float_checkpoint, weights_only=True)['params'].items():
        assert torch.equal(own[key], value)


def test_fine_tuning_sees_smaller_patches_than_calibration(train_options, train, batches):
    options = train_options()
    options['train']['patch_size'] = 8
    sizes = []
    model = build_model(options)
    model.network.register_forward_pre_hook(lambda net, inputs: sizes.append(tuple(inputs[0].shape[-2:])))
    given = batches(3)
    side = given[0]['lq'].shape[-1]
    train(model, given)
    assert side > 8 and sizes == [(side, side)] * 2 + [(8, 8)] * 2


@pytest.mark.parametrize('given, asked, words', [
    ({'patch_size': 24}, 32, 'train.patch_size: 32 is more'), ({}, 128, 'train.patch_size: 128 is more'),
    ({'patch_size': 'abc'}, 32, 'datasets.train.patch_size'),
])  # fmt: skip
def test_patches_larger_than_the_data_sets_are_refused(train_options, photographs, given, asked, words):
    options = train_options()
    loading = {
        'name': 'lr', 'type': 'LRCalibrationDataset', 'dataroot_lq': str(photographs / 'LR'), 'phase': 'train',
        'batch_size_per_gpu': 2, 'num_worker_per_gpu': 0,
    }  # fmt: skip
    options['datasets'] = {'train': {**loading, **given}}
    options['train']['patch_size'] = asked
    with pytest.raises(DynqError, match=words):
        AdaBMModel.check_options(options)


@pytest.mark.parametrize('stages', [['joint', 'weight'], ['weight', 'joint']])
def test_a_joint_stage_may_stand_beside_another(train_options, train, batches, stages):
    options = train_options()
    options['train']['stages'] = stages
    states = []
    train(options, batches(4), watch=lambda i, m: states.append(snapshot(m)))
    expected = {'weight': {'weight'}, 'joint': {'weight', 'activation', 'mapping'}}
    for before, after, stage in zip(states[1:], states[2:], stages, strict=False):
        assert kinds_that_moved(before, after) == expected[stage]


def test_learned_rounding_needs_a_stage_that_learns_it(train_options):
    options = train_options()
    options['train']['stages'] = ['activation']
    options['network_g']['quantization']['weight']['rounding'] = 'learned'
    with pytest.raises(DynqError, match="rounding: 'learned' needs a stage"):
        build_model(options)


@pytest.mark.parametrize('momentum', [0, 0.75])
def test_the_bit_loss_begins_at_the_target_of_the_running_mean(train_options, train, batches, momentum):
    options = train_options()
    options['train'] |= {'stages': ['joint'], 'loss': {'bit': 2, 'target_bits': 3, 'bit_momentum': momentum}}
    losses = []
    train(options, batches(6), watch=lambda i, m: losses.append(dict(m.get_current_log())))
    mean = None
    for loss in losses[2:]:
        mean = loss['bits'] if mean is None else momentum * mean + (1 - momentum) * loss['bits']
        assert loss['l_bit'] == pytest.approx(2 * max(mean - 3, 0), rel=1e-4)
    assert len({round(loss['bits'], 3) for loss in losses[2:]}) > 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason='no GPU is here')
def test_a_gpu_learns_what_a_cpu_learns(train_options, train, batches, loader):
    losses, quality = {0: [], 1: []}, []
    for gpus, found in losses.items():
        model = train(
            train_options(num_gpu=gpus), batches(8), watch=lambda _, model, found=found: found.append(model.log_dict)
        )
        assert next(model.network.parameters()).is_cuda == bool(gpus)
        model.validation(loader(), 8, None, False)
        quality.append(dict(model.metric_results))
    for one, other in zip(losses[0], losses[1], strict=True):
        assert dict(other) == pytest.approx(dict(one), rel=0.02)  # TF32, and bits that flip by it
    assert quality[1]['psnr'] == pytest.approx(quality[0]['psnr'], abs=0.05)
    assert quality[1]['fab'] == pytest.approx(quality[0]['fab'], abs=0.05)
