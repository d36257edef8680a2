"""Rewrites keep the numbers and do what they are for."""

import pytest
import torch
from torch import nn

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.export.base_graph import DOMAIN, resolutions, trace_network  # noqa: E402
from dynq_basicsr.export.check import check_skeleton  # noqa: E402
from dynq_basicsr.export.frozen import float_layers  # noqa: E402
from dynq_basicsr.export.kernels import KernelAssembler  # noqa: E402
from dynq_basicsr.export.simplify import shuffled_order, simplify  # noqa: E402

SRRESNET = {'type': 'SRResNetBN', 'num_feat': 8, 'num_block': 1, 'upscale': 4}


@pytest.fixture(scope='module')
def srresnet(calibrated):
    return calibrated(SRRESNET, {'weight': {'bits': 4}, 'activation': {'bits': 4}, 'scope': 'full'})


def test_batch_norms_and_shuffles(srresnet):
    traced = trace_network(srresnet)
    base = simplify(traced)
    kinds = [node.op_type for node in base.nodes]
    assert 'BatchNormalization' not in kinds  # each is part of the layer before it
    assert base.shuffled == {'up.0': 2, 'up.1': 2}
    # each shuffle stands directly before the next layer: its own quantization moves integers
    readers = {name: node for node in base.nodes for name in node.input}
    shuffles = [node for node in base.nodes if node.op_type == 'DepthToSpace']
    assert len(shuffles) == 2 and all(readers[node.output[0]].domain == DOMAIN for node in shuffles)
    check_skeleton(srresnet, KernelAssembler(base, resolutions(srresnet)).assemble(float_layers(srresnet)))


def test_a_batch_norm_that_is_not_folded_stays(calibrated):
    net = calibrated(SRRESNET, {'weight': {'bits': 4}})  # of float inputs
    base = simplify(trace_network(net))
    norms = [node.input[1] for node in base.nodes if node.op_type == 'BatchNormalization']
    # the exporter itself folds that of a float convolution
    assert norms == ['net.backbone.body.0.bn1.weight', 'net.backbone.body.0.bn2.weight']
    check_skeleton(net, KernelAssembler(base, resolutions(net)).assemble(float_layers(net)))


def test_shuffled_order():
    x = torch.arange(12.0).view(1, 12, 1, 1)
    wanted = nn.functional.pixel_shuffle(x, 2)
    reordered = x[:, shuffled_order(12, 2).copy()].view(1, 2, 2, 3, 1, 1)
    assert torch.equal(reordered.permute(0, 3, 4, 1, 5, 2).reshape(wanted.shape), wanted)
