"""Integer kernels of every geometry against sums of integers in PyTorch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('onnx', reason='the extra deploy is not installed')
onnxruntime = pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from onnx import TensorProto, helper  # noqa: E402

from dynq_basicsr.errors import DynqError  # noqa: E402
from dynq_basicsr.export.base_graph import DOMAIN, LAYER  # noqa: E402
from dynq_basicsr.export.frozen import FrozenLayer  # noqa: E402
from dynq_basicsr.export.kernels import KernelAssembler  # noqa: E402
from dynq_basicsr.export.portable import PortableAssembler  # noqa: E402
from dynq_basicsr.export.simplify import Base  # noqa: E402
from dynq_basicsr.runtime.grids import Grid  # noqa: E402
from dynq_basicsr.runtime.sessions import open_session, open_sessions  # noqa: E402

# outputs, inputs, kernel, further options
CONVOLUTIONS = {
    '3x3': (64, 6, (3, 3), {'padding': (1, 1)}),
    '3x3 of few outputs, row by row': (5, 6, (3, 3), {'padding': (1, 1)}),
    '1x1': (7, 6, (1, 1), {}),
    '9x9, row after column': (8, 6, (9, 9), {'padding': (4, 4)}),
    '1x3': (7, 6, (1, 3), {'padding': (0, 1)}),
    'groups': (60, 6, (3, 3), {'padding': (1, 1), 'groups': 3}),
    'depthwise': (6, 6, (3, 3), {'padding': (1, 1), 'groups': 6}),
    'dilation': (7, 6, (3, 3), {'padding': (2, 2), 'dilation': (2, 2)}),
    'stride': (7, 6, (3, 3), {'padding': (1, 1), 'stride': (2, 2)}),
    'no padding': (7, 6, (3, 3), {}),
    'even kernel': (7, 6, (2, 2), {'padding': (1, 1)}),
    'even kernel, dilation': (7, 6, (2, 2), {'padding': (1, 1), 'dilation': (2, 2)}),
}
GRIDS = {'few levels': Grid(np.float32(0.13), 5, 15), 'all levels': Grid(np.float32(0.011), 77, 255),
         'unsigned': Grid(np.float32(0.05), 0, 63)}  # fmt: skip


def layer_of(outputs, inputs, kernel, bits, grid, **geometry) -> FrozenLayer:
    generator = np.random.default_rng(3)
    shape = outputs, inputs // geometry.get('groups', 1), *kernel
    weight = generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), shape, dtype=np.int8)
    scale, bias = generator.uniform(0.01, 0.1, outputs), generator.normal(0, 1, outputs)
    return FrozenLayer('one', weight, scale.astype(np.float32), bits, bias.astype(np.float32), grid, **geometry)


def alone(x: torch.Tensor) -> Base:
    """A graph of the layer alone."""
    node = helper.make_node(LAYER, ['image'], ['result'], domain=DOMAIN, name='one')
    node.attribute.append(helper.make_attribute('name', 'one'))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * x.dim()) for name in ('image', 'result')]
    return Base(helper.make_model(helper.make_graph([node], 'one', values[:1], values[1:])), [node], {})


def run(assembler, layer: FrozenLayer, x: torch.Tensor, *resolutions: dict) -> np.ndarray:
    """A model of this layer alone."""
    content = assembler(alone(x), *resolutions).assemble({'one': layer}).SerializeToString()
    if assembler is KernelAssembler:
        return open_session(content, 'one')(x.numpy())
    options = onnxruntime.SessionOptions()  # what ONNX Runtime makes of QDQ is not exact
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(content, options).run(None, {'image': x.numpy()})[0]


def expected(layer: FrozenLayer, x: torch.Tensor) -> torch.Tensor:
    grid = layer.grid
    integers = x.div(float(grid.scale)).round().add(grid.zero_point).clamp(0, grid.top).sub(grid.zero_point).double()
    weight, scale = torch.from_numpy(layer.weight).double(), torch.from_numpy(layer.weight_scale).double()
    bias = torch.from_numpy(layer.bias).double()
    if weight.dim() == 2:
        return F.linear(integers, weight) * float(grid.scale) * scale + bias
    sums = F.conv2d(integers, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups)
    return sums * float(grid.scale) * scale.view(-1, 1, 1) + bias.view(-1, 1, 1)


@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('bits', [4, 8])
@pytest.mark.parametrize('kind', CONVOLUTIONS)
def test_convolutions(kind, bits, grid):
    outputs, inputs, kernel, geometry = CONVOLUTIONS[kind]
    layer = layer_of(outputs, inputs, kernel, bits, GRIDS[grid], **geometry)
    x = torch.randn(2, inputs, 11, 7, generator=torch.Generator().manual_seed(1))
    wanted = expected(layer, x).numpy()
    found = [run(KernelAssembler, layer, x, resolutions) for resolutions in ({'one': 1}, {})]
    # QDQ's sums are float32, so its results are near
    for result, tolerance in [*((one, 1e-6) for one in found), (run(PortableAssembler, layer, x), 1e-5)]:
        np.testing.assert_allclose(result, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize('resolutions', [{'one': 1}, {}])
@pytest.mark.parametrize('bits', [4, 8])
@pytest.mark.parametrize('kind', CONVOLUTIONS)
def test_one_graph_for_all_grids_gives_the_same_bits(kind, bits, resolutions):
    outputs, inputs, kernel, geometry = CONVOLUTIONS[kind]
    layer = layer_of(outputs, inputs, kernel, bits, GRIDS['few levels'], **geometry)
    x = torch.randn(2, inputs, 11, 7, generator=torch.Generator().manual_seed(1))
    assignments = {name: {'one': grid} for name, grid in GRIDS.items()}
    model = KernelAssembler(alone(x), resolutions).assemble({'one': layer}, list(assignments.values()))
    sessions = open_sessions(model.SerializeToString(), 'one', assignments)
    for name, grid in GRIDS.items():
        wanted = run(KernelAssembler, replace(layer, grid=grid), x, resolutions)
        np.testing.assert_array_equal(sessions[name](x.numpy()), wanted)


def test_bytes_that_all_codes_use_whole_are_not_clipped():
    layer = layer_of(5, 6, (3, 3), 8, GRIDS['all levels'], padding=(1, 1))
    base, grids = alone(torch.zeros(1, 6, 4, 4)), {'one': GRIDS['all levels']}
    for assignments, clips in (((), False), ([grids, grids], False), ([grids, {'one': GRIDS['unsigned']}], True)):
        made = KernelAssembler(base, {}).assemble({'one': layer}, assignments)
        assert ('Clip' in [node.op_type for node in made.graph.node]) == clips
        assert ('top of one' in [one.name for one in made.graph.input]) == clips


def test_zeros_between_groups_are_not_stored():
    sizes = {}
    for groups in (1, 4):
        layer = layer_of(64, 64, (3, 3), 4, GRIDS['few levels'], padding=(1, 1), groups=groups)
        made = KernelAssembler(alone(torch.zeros(1, 64, 4, 4)), {'one': 1}).assemble({'one': layer})
        sizes[groups] = made.ByteSize()
    assert sizes[1] - sizes[4] > 0.7 * 64 * 64 * 9 / 2


@pytest.mark.parametrize('kind', CONVOLUTIONS)
def test_precise_convolutions(kind):
    """Float ones, summed in float64 where pixels can be laid side by side."""
    outputs, inputs, kernel, geometry = CONVOLUTIONS[kind]
    layer = layer_of(outputs, inputs, kernel, 8, GRIDS['few levels'], **geometry)
    weight = np.random.default_rng(4).normal(0, 1, layer.weight.shape).astype(np.float32)
    layer = replace(layer, weight=weight, weight_scale=None, weight_bits=32, grid=None, precise=True)
    x = torch.randn(2, inputs, 11, 7, generator=torch.Generator().manual_seed(1))
    weight, bias = torch.from_numpy(weight).double(), torch.from_numpy(layer.bias).double()
    wanted = F.conv2d(x.double(), weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups).float()
    if layer.stride == (1, 1) and wanted.shape[2:] == x.shape[2:] and kernel[0] % 2:
        assert torch.equal(torch.from_numpy(run(KernelAssembler, layer, x, {'one': 1})), wanted)
    for found in run(KernelAssembler, layer, x, {}), run(PortableAssembler, layer, x):
        np.testing.assert_allclose(found, wanted.numpy(), rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize('kind', ['3x3', '3x3 of few outputs, row by row', 'stride'])
def test_scales_of_any_sign(kind):
    """Batch normalization gives them."""
    outputs, inputs, kernel, geometry = CONVOLUTIONS[kind]
    layer = layer_of(outputs, inputs, kernel, 8, GRIDS['few levels'], **geometry)
    layer = replace(layer, weight_scale=layer.weight_scale * np.resize(np.float32([1, -1, 0]), outputs))
    x = torch.randn(2, inputs, 11, 7, generator=torch.Generator().manual_seed(1))
    wanted = expected(layer, x).numpy()
    for result in run(KernelAssembler, layer, x, {'one': 1}), run(PortableAssembler, layer, x):
        np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize('shape', [(3, 5, 6), (2, 6), (2, 3, 4, 6)])
@pytest.mark.parametrize('bits', [4, 8])
def test_linear_layers(bits, shape):
    layer = layer_of(7, 6, (), bits, GRIDS['few levels'])
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for result in (run(KernelAssembler, layer, x, {}), run(PortableAssembler, layer, x)):
        wanted = expected(layer, x).numpy()
        np.testing.assert_allclose(result, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_integers_at_the_resolution_of_the_image():
    """Pixels under the kernel are found by the image's size times a layer's resolution."""
    layer = layer_of(64, 6, (3, 3), 8, GRIDS['few levels'], padding=(1, 1))
    x = torch.randn(1, 6, 8, 12)
    with pytest.raises(DynqError, match='one: onnxruntime failed'):
        run(KernelAssembler, layer, x, {'one': 2})


@pytest.mark.parametrize('slope', [-0.5, 0.25, 1.0, 1.5])
@pytest.mark.parametrize('grid', GRIDS)
@pytest.mark.parametrize('each', [True, False])
def test_integers_of_a_prelu(slope, grid, each):
    """Of the larger of two floats, or of a sum where a slope is above 1; never compared as bytes."""
    layer = layer_of(5, 6, (3, 3), 8, GRIDS[grid], padding=(1, 1))
    x = torch.randn(2, 6, 8, 12, generator=torch.Generator().manual_seed(1))
    slopes = torch.tensor([slope, -0.3, 0.0, 0.1, 0.9, 1.0]).view(-1, 1, 1)[: 6 if each else 1]
    nodes = [helper.make_node('PRelu', ['image', 'slopes'], ['bent']), helper.make_node(LAYER, ['bent'], ['result'],
             domain=DOMAIN, name='one')]  # fmt: skip
    nodes[1].attribute.append(helper.make_attribute('name', 'one'))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ('image', 'result')]
    model = helper.make_model(helper.make_graph(nodes, 'one', values[:1], values[1:]))
    base = Base(model, nodes, {'slopes': slopes.numpy()})
    made = KernelAssembler(base, {'one': 1}).assemble({'one': layer})
    operators = [node.op_type for node in made.graph.node]
    assert ('Max' in operators) == (slope <= 1) and operators.index('QuantizeLinear') > operators.index('Mul')
    assert 'Min' not in operators and 'Max' not in operators[operators.index('QuantizeLinear') :]
    wanted = expected(layer, torch.where(x > 0, x, x * slopes)).numpy()
    found = open_session(made.SerializeToString(), 'one')(x.numpy())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize('resolutions', [{'one': 2}, {}])
@pytest.mark.parametrize('mode', ['DCR', 'CRD'])
@pytest.mark.parametrize('kind', ['3x3', '1x1'])
def test_behind_a_pixel_shuffle(kind, mode, resolutions):
    """Integers are moved, where the size is known, instead of floats."""
    outputs, inputs, kernel, geometry = CONVOLUTIONS[kind]
    layer = layer_of(outputs, inputs, kernel, 8, GRIDS['few levels'], **geometry)
    x = torch.randn(2, 4 * inputs, 5, 7, generator=torch.Generator().manual_seed(1))
    nodes = [helper.make_node('DepthToSpace', ['image'], ['shuffled'], blocksize=2, mode=mode),
             helper.make_node(LAYER, ['shuffled'], ['result'], domain=DOMAIN, name='one')]  # fmt: skip
    nodes[1].attribute.append(helper.make_attribute('name', 'one'))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ('image', 'result')]
    model = helper.make_model(helper.make_graph(nodes, 'one', values[:1], values[1:]))
    made = KernelAssembler(Base(model, nodes, {}), resolutions).assemble({'one': layer})
    assert ('DepthToSpace' in [node.op_type for node in made.graph.node]) == (not resolutions)
    shuffled = x if mode == 'CRD' else x.view(2, 4, inputs, 5, 7).transpose(1, 2).reshape(x.shape)
    wanted = expected(layer, F.pixel_shuffle(shuffled, 2)).numpy()
    found = open_session(made.SerializeToString(), 'one')(x.numpy())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())
