"""The export's own checks see what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.errors import DynqError  # noqa: E402
from dynq_basicsr.export.base_graph import resolutions, trace_network  # noqa: E402
from dynq_basicsr.export.check import agreement, check_layers, check_skeleton, trial_images  # noqa: E402
from dynq_basicsr.export.flips import find_first_flips  # noqa: E402
from dynq_basicsr.export.frozen import float_layers, freeze_layers  # noqa: E402
from dynq_basicsr.export.kernels import KernelAssembler  # noqa: E402
from dynq_basicsr.export.portable import PortableAssembler  # noqa: E402
from dynq_basicsr.export.simplify import simplify  # noqa: E402

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
BITS, NAME = (4.0, 4.0), 'body.0.conv1'


@pytest.fixture(scope='module')
def edsr(calibrated):
    return calibrated(EDSR, {'weight': {'bits': 4}, 'activation': {'bits': 4}})


@pytest.fixture
def layers(edsr):
    return freeze_layers(edsr, BITS)


@pytest.fixture(scope='module')
def base(edsr):
    return simplify(trace_network(edsr))


def one_more(array: np.ndarray) -> np.ndarray:
    """The array with its first value changed."""
    changed = array.copy()
    changed.flat[0] += 1 if changed.flat[0] < 7 else -1
    return changed


WRONG = {
    'zero point': lambda one: replace(one, grid=replace(one.grid, zero_point=one.grid.zero_point + 1)),
    'scale': lambda one: replace(one, grid=replace(one.grid, scale=np.float32(one.grid.scale * 1.01))),
    'levels': lambda one: replace(one, grid=replace(one.grid, top=7)),
    'weight': lambda one: replace(one, weight=one_more(one.weight)),
    'scale of the weight': lambda one: replace(one, weight_scale=one.weight_scale * np.float32(1.01)),
    'bias': lambda one: replace(one, bias=one.bias * 0),
    'dilation': lambda one: replace(one, dilation=(2, 2), padding=(2, 2)),
}


def test_right_layers_pass(edsr, layers):
    check_layers(edsr, BITS, layers, resolutions(edsr))


@pytest.mark.parametrize('what', WRONG)
def test_a_wrong_layer_is_named(edsr, layers, what):
    with pytest.raises(DynqError, match=f'{NAME}: its integers do not give the numbers of the network'):
        check_layers(edsr, BITS, layers | {NAME: WRONG[what](layers[NAME])}, resolutions(edsr))


def test_sums_that_float32_does_not_hold_are_near(calibrated):
    net = calibrated(EDSR | {'num_feat': 144}, {'weight': {'bits': 8}, 'activation': {'bits': 8}})
    layer = dict(net.backbone.named_modules())[NAME]
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.weight[0, ::2] = 0.9
        layer.weight_range.set(torch.tensor(1.0))
        net.backbone.conv_first.bias.fill_(50)  # every input far above its range
    layers = freeze_layers(net, (8.0, 8.0))
    assert layers[NAME].largest_sum > 2**24
    check_layers(net, (8.0, 8.0), layers, resolutions(net))
    wrong = {NAME: replace(layers[NAME], weight=layers[NAME].weight - 1)}
    with pytest.raises(DynqError, match=NAME):
        check_layers(net, (8.0, 8.0), layers | wrong, resolutions(net))


@pytest.mark.parametrize('what', WRONG)
def test_a_wrong_layer_parts_the_networks(edsr, base, layers, what):
    image = trial_images(edsr)[1]
    assemble = KernelAssembler(base, resolutions(edsr)).assemble
    good = find_first_flips(edsr, BITS, assemble(layers).SerializeToString(), {}, image)
    wrong = assemble(layers | {NAME: WRONG[what](layers[NAME])}).SerializeToString()
    assert good.count == 0
    assert find_first_flips(edsr, BITS, wrong, {}, image).distance > 0.01


def test_skeletons(edsr, base):
    right = float_layers(edsr)
    for assembler in (KernelAssembler(base, resolutions(edsr)), PortableAssembler(base)):
        check_skeleton(edsr, assembler.assemble(right))
        wrong = right | {NAME: replace(right[NAME], bias=right[NAME].bias + 10)}
        with pytest.raises(DynqError, match='EDSR: its ONNX graph does not give the numbers'):
            check_skeleton(edsr, assembler.assemble(wrong))


def test_agreement():
    one = np.array([0.0, 0.4, 1.0, 1.5])
    agreed = agreement(one, one + np.array([0, 1, -2, 30]) / 255)
    assert (agreed.equal, agreed.within_one) == (0.5, 0.75)
    assert agreement(torch.rand(3, 4).numpy(), np.full((3, 4), 9.0)).within_one < 1
