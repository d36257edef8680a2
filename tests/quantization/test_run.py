"""A run is known to the layers while it lasts and to nobody afterwards, whatever happens inside.

What a network computes depends on its mode, and on nothing else around it.
"""

import copy
import warnings

import pytest
import torch
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.base import POLICIES, BitPolicy
from dynq_basicsr.quantization.run import Details, Mode, Run, RunHolder
from dynq_basicsr.training.calibration import Calibration

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}
NORMED = {'type': 'SRResNetBN', 'num_feat': 8, 'num_block': 2, 'upscale': 2}
W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
W8A8 = {'weight': {'bits': 8}, 'activation': {'bits': 8}}


@pytest.fixture(scope='module')
def images():
    generator = torch.Generator().manual_seed(2)
    contrast = torch.tensor([0.02, 0.2, 0.5, 1.0]).view(-1, 1, 1, 1)
    return 0.5 + contrast * (torch.rand(4, 3, 16, 24, generator=generator) - 0.5)


def calibrated(images, backbone=EDSR, quantization=W4A4, policy='AdaBM'):
    torch.manual_seed(0)
    net = QuantizedSR(backbone, quantization, {'type': policy}).eval()
    if policy == 'GranularDQ':
        net.policy.set_distribution(torch.linspace(0, 3.4, 100))
        nn.init.normal_(net.policy.controller.gate.weight)
    calibration = Calibration(net)
    calibration.observe(images)
    calibration.finish()
    return net


@pytest.fixture(params=[
    {},
    {'quantization': {**W4A4, 'scope': 'full'}},
    {'backbone': NORMED},
    {'quantization': W8A8, 'policy': 'GranularDQ'},
    {'quantization': {'weight': {'bits': 4, 'grid': 'literal'}, 'activation': {'bits': 4, 'grid': 'literal'}}},
], ids=['body', 'full', 'batch norm', 'granular', 'literal'])  # fmt: skip
def net(request, images):
    return calibrated(images, **request.param)


class Stop(Exception):
    pass


# -- the holder ------------------------------------------------------------------------------------------------------


def test_a_fresh_run_knows_nothing():
    run = Run(Mode.TRAINING, torch.bfloat16, layers=2)
    assert (run.mode, run.matmul_dtype) == (Mode.TRAINING, torch.bfloat16)
    assert run.grids == run.weights == [None, None] and run.grids is not run.weights
    assert run.decide is run.on_shallow is run.features is None and run.bits == {}
    assert Run(Mode.FLOAT).grids == [] and RunHolder().run is None
    assert Run(Mode.FLOAT).bits is not Run(Mode.FLOAT).bits


def test_modes_are_what_they_are_called():
    assert [Mode(name) for name in ('float', 'training', 'exact')] == list(Mode)


@pytest.mark.parametrize('mode', list(Mode))
@pytest.mark.parametrize('details', [True, False])
def test_a_run_lasts_as_long_as_the_forward(net, images, mode, details):
    seen = []
    hook = net.quant_layers()[0].register_forward_hook(lambda *_: seen.append(net.holder.run))
    net(images, mode=mode, details=details)
    assert seen[0].mode is mode and net.holder.run is None
    net.backbone(images)
    assert seen[1] is None
    hook.remove()


@pytest.mark.parametrize('mode', list(Mode))
def test_an_error_inside_ends_the_run(net, images, mode):
    expected = net(images)

    def fail(*_):
        raise Stop

    hook = net.quant_layers()[1].register_forward_pre_hook(fail)
    with pytest.raises(Stop):
        net(images, mode=mode, details=True)
    assert net.holder.run is None
    hook.remove()
    assert torch.equal(net(images), expected)


def test_details_of_one_forward_are_its_own(images):
    net = calibrated(images)
    net.tap([net.backbone.body[0], net.backbone.body[1]])
    first = net(images, details=True)
    bits, features = first.bits.clone(), [one.clone() for one in first.features]
    second = net(images.flip(0), details=True, bits=torch.full((4,), 8.0))
    assert isinstance(first, Details) and len(second.features) == 2
    assert torch.equal(second.bits, torch.full((4, 1), 8.0))
    assert torch.equal(first.bits, bits)
    assert all(torch.equal(one, other) for one, other in zip(first.features, features, strict=True))
    assert not torch.equal(first.features[1], second.features[1].flip(0))


def test_a_deep_copy_has_a_holder_of_its_own(net, images):
    twin = copy.deepcopy(net)
    assert twin.holder is not net.holder
    assert {id(layer.holder) for layer in twin.quant_layers()} == {id(twin.holder)}
    seen = []
    twin.quant_layers()[0].register_forward_hook(lambda *_: seen.append(net.holder.run))
    twin(images)
    assert seen == [None]


def test_the_shallow_feature_is_told_once():
    holder, told = RunHolder(), []
    holder.see_shallow(None, (), torch.zeros(1))  # outside of a run
    holder.run = Run(Mode.EXACT)
    holder.see_shallow(None, (), torch.zeros(1))  # nobody asks
    holder.run.on_shallow = told.append
    for value in (1.0, 2.0):
        holder.see_shallow(None, (), torch.tensor(value))
    assert told == [torch.tensor(1.0)]


def test_features_are_kept_where_somebody_asks():
    holder = RunHolder()
    holder.see_feature(None, (), torch.zeros(1))
    holder.run = Run(Mode.EXACT)
    holder.see_feature(None, (), torch.zeros(1))
    assert holder.run.features is None
    holder.run.features = []
    holder.see_feature(None, (), torch.tensor(1.0))
    holder.see_feature(None, (), (torch.tensor(2.0), 'of a tuple, the first'))
    assert holder.run.features == [torch.tensor(1.0), torch.tensor(2.0)]


class Watched(torch.autograd.Function):
    """The identity, which tells its holder's run in the backward pass."""

    @staticmethod
    def forward(ctx, x, holder, seen):
        ctx.holder, ctx.seen = holder, seen
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        ctx.seen.append(ctx.holder.run)
        return grad, None, None


def test_the_run_is_back_during_the_backward_pass_and_gone_after_it():
    holder, seen, x = RunHolder(), [], torch.ones(2, requires_grad=True)
    run = holder.run = Run(Mode.TRAINING)
    output = Watched.apply(x, holder, seen) * 2
    holder.stay_for_backward(output)
    holder.clear()
    assert holder.run is None
    (output.sum() + 1).backward()
    assert seen == [run] and holder.run is None


def test_two_forwards_before_the_backward_passes_bring_back_each_its_own():
    holder, seen, x = RunHolder(), [], torch.ones(2, requires_grad=True)
    runs, outputs = [Run(Mode.TRAINING), Run(Mode.TRAINING)], []
    for run in runs:
        holder.run = run
        outputs.append(Watched.apply(x, holder, seen))
        holder.stay_for_backward(outputs[-1])
        holder.clear()
    for output in outputs:
        output.sum().backward()
        assert holder.run is None
    assert seen == runs


def test_two_forwards_in_one_backward_pass_see_each_its_own():
    holder, seen, x = RunHolder(), [], torch.ones(2, requires_grad=True)
    runs, total = [Run(Mode.TRAINING), Run(Mode.TRAINING)], 0
    for run in runs:
        holder.run = run
        output = Watched.apply(Watched.apply(x, holder, seen) * 2, holder, seen)
        holder.stay_for_backward(output)
        holder.clear()
        total = total + output.sum()
    total.backward()
    assert seen == [runs[1], runs[1], runs[0], runs[0]] and holder.run is None


def test_what_has_no_backward_pass_leaves_nothing():
    holder = RunHolder()
    holder.stay_for_backward(torch.ones(2, requires_grad=True) * 2)  # outside of a run
    holder.run = Run(Mode.EXACT)
    holder.stay_for_backward(torch.ones(2))


# -- what does not matter --------------------------------------------------------------------------------------------


def test_evaluation_is_the_same_with_and_without_gradients_and_in_autocast(net, images):
    expected = net(images, details=True)
    assert not expected.output.requires_grad
    for surrounding in (torch.no_grad(), torch.inference_mode(), torch.autocast('cpu', torch.bfloat16)):
        with surrounding:
            found = net(images, details=True)
        assert found.output.dtype == torch.float32 and torch.equal(found.output, expected.output)
        assert torch.equal(found.bits, expected.bits)


@pytest.mark.parametrize('mode', ['float', 'training'])
def test_other_modes_are_the_same_with_and_without_gradients(net, images, mode):
    expected = net(images, mode=mode)
    assert expected.requires_grad
    with torch.no_grad():
        assert torch.equal(net(images, mode=mode), expected)


@torch.no_grad()
def test_the_mode_is_that_of_the_module_where_none_is_given(images):
    net = calibrated(images)
    exact, simulated = net(images), net(images, mode='training')
    assert torch.equal(exact, net(images, mode=Mode.EXACT)) and not torch.equal(exact, simulated)
    torch.testing.assert_close(simulated, exact, rtol=1e-3, atol=1e-3)
    assert torch.equal(net.train()(images), net(images, mode='training'))


def test_exact_integers_are_for_evaluation(images):
    net = calibrated(images).train()
    with pytest.raises(DynqError, match=r'in training mode.*call eval\(\)'):
        net(images, mode='exact')
    assert net.holder.run is None and torch.equal(net.eval()(images, mode='exact'), net(images))


@torch.no_grad()
def test_the_bare_backbone_is_the_float_network(net, images):
    assert torch.equal(net.backbone(images), net(images, mode='float'))
    assert not torch.equal(net.backbone(images), net(images))


@torch.no_grad()
def test_bits_that_are_given_take_the_place_of_the_policys(net, images):
    for mode in ('training', 'exact'):
        decided = net(images, mode=mode, details=True)
        bits = decided.bits.expand(-1, 4)
        assert torch.equal(net(images, mode=mode, bits=bits), decided.output)
    count = len(net.plan.adaptive)
    same = torch.full((count,), 4.0)
    assert torch.equal(net(images, bits=same), net(images, bits=same.view(-1, 1).expand(-1, 4)))


# -- policies that decide layer by layer -----------------------------------------------------------------------------


class ByLayer(BitPolicy):
    """Most bits for the inputs of larger deviation."""

    by_layer = True
    candidates = (3, 4, 8)

    def decide_layer(self, index, x):
        deviation = x.flatten(1).std(dim=1)
        return torch.where(deviation > deviation.median(), 8.0, 4.0 if index else 3.0)


@torch.no_grad()
def test_a_policy_may_look_at_each_layers_input(images, monkeypatch):
    monkeypatch.setattr(POLICIES, '_classes', {**POLICIES._classes, 'ByLayer': ByLayer})
    net = calibrated(images, policy='ByLayer')
    inputs = {}
    for layer in net.quant_layers():
        layer.register_forward_pre_hook(lambda layer, given: inputs.update({layer.index: given[0]}))
    output, bits, _ = net(images, details=True)
    assert bits.shape == (4, 4) and set(bits.flatten().tolist()) == {3.0, 4.0, 8.0}
    for index, x in inputs.items():
        assert torch.equal(bits[index], net.policy.decide_layer(index, x))
    assert torch.equal(net(images, bits=bits), output)


def test_nothing_warns_of_anything(net, images):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        net(images)
        net.train()(images).sum().backward()
