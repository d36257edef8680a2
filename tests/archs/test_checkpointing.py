"""Activation checkpointing, which runs blocks once more in the backward pass, changes neither output nor gradients."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.training.calibration import Calibration

WINDOWS = {'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [2], 'num_heads': [2], 'embed_dim': 8,
           'mlp_ratio': 2}  # fmt: skip
SWINIR = {'type': 'SwinIR', **WINDOWS, 'upsampler': 'pixelshuffledirect'}
HAT = {'type': 'HAT', **WINDOWS, 'compress_ratio': 2, 'squeeze_factor': 2}
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 2}
POLICIES = {'AdaBM': 4, 'GranularDQ': 8}


@pytest.fixture(params=POLICIES)
def build(request, images):
    """Build a calibrated network in training mode, whose policy tells the images apart."""

    def make(backbone):
        torch.manual_seed(0)
        bits = {'weight': {'bits': 4}, 'activation': {'bits': POLICIES[request.param]}}
        net = QuantizedSR(backbone, bits, {'type': request.param}).train()
        calibration = Calibration(net)
        calibration.observe(images)
        calibration.finish()
        if request.param == 'AdaBM':
            net.policy.thresholds.data.copy_(torch.tensor([8.0, 40.0]))
        return net

    return make


def run(net, x, seed=1):
    """Dropped paths and the gate's choice are drawn."""
    torch.manual_seed(seed)
    return net(x)


def gradients(net):
    """Of every parameter, which are forgotten then."""
    found = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    net.zero_grad()
    return found


def assert_equal(found, expected):
    assert found.keys() == expected.keys() and len(found) > 0
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def count_runs(layer):
    runs = []
    layer.register_forward_pre_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    return runs


@pytest.mark.parametrize('backbone', [SWINIR, HAT], ids=['SwinIR', 'HAT'])
def test_use_checkpoint_of_transformers(backbone, build, images):
    if backbone is HAT:
        pytest.importorskip('spandrel', reason='the extra community is not installed')
    plain, net = build(backbone), build(backbone | {'use_checkpoint': True})
    assert list(net.state_dict()) == list(plain.state_dict())
    net.load_state_dict(plain.state_dict())
    runs = count_runs(net.quant_layers()[0])
    expected, output = run(plain, images), run(net, images)
    assert torch.equal(output, expected)
    expected.square().sum().backward()
    output.square().sum().backward()
    assert len(runs) == 2 and net.holder.run is None  # the second time in the backward pass
    assert_equal(gradients(net), gradients(plain))
    with torch.no_grad():
        assert torch.equal(net.eval()(images), plain.eval()(images)) and len(runs) == 3
    assert torch.equal(net.backbone(images), plain.backbone(images))  # the float network, with gradients


def checkpointed(net):
    """A copy whose blocks the user of the network checkpoints."""
    net = deepcopy(net)
    for block in net.backbone.body:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    return net


@pytest.mark.parametrize('first', [0, 1])
def test_each_backward_finds_its_own_run(build, images, first):
    """Two forwards whose runs differ in bits and in the number of images, then both backwards in either order."""
    plain = build(EDSR)
    net = checkpointed(plain)
    runs, batches = count_runs(net.quant_layers()[0]), (images[:1], images[1:])
    expected = []
    for batch in batches:
        output = run(plain, batch)
        output.square().sum().backward()
        expected.append((output, gradients(plain)))
    outputs = [run(net, batch) for batch in batches]
    assert len(runs) == 2 and net.holder.run is None
    for place in (first, 1 - first):
        assert torch.equal(outputs[place], expected[place][0])
        outputs[place].square().sum().backward()
        assert net.holder.run is None
        assert_equal(gradients(net), expected[place][1])
    assert len(runs) == 4


def test_one_backward_of_two_forwards(build, images):
    plain = build(EDSR)
    net, batches = checkpointed(plain), (images[:1], images[1:])
    for one in (plain, net):
        sum(run(one, batch).square().sum() for batch in batches).backward()
        assert one.holder.run is None
    assert_equal(gradients(net), gradients(plain))


def test_a_loss_of_features_alone(build, images):
    """What no gradient of the output announces."""
    plain = build(EDSR)
    for one in (plain, net := checkpointed(plain)):
        one.tap([one.backbone.body[1]])
        torch.manual_seed(1)
        features = one(images, details=True).features
        assert len(features) == 1
        features[0].square().sum().backward()
        assert one.holder.run is None
    assert_equal(gradients(net), gradients(plain))


def test_runs_between_forward_and_backward_disturb_nothing(build, images):
    plain = build(EDSR)
    run(plain, images).square().sum().backward()
    net = checkpointed(plain)
    net.zero_grad()
    output = run(net, images)
    with torch.no_grad():
        for mode in ('float', 'exact', 'training'):
            net.train(mode != 'exact')(images[:2], mode=mode)
    net.train()
    output.square().sum().backward()
    assert net.holder.run is None
    assert_equal(gradients(net), gradients(plain))
