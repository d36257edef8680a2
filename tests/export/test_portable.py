"""The form for OpenVINO: what its order of operators is for."""

import numpy as np
import pytest
import torch

pytest.importorskip('onnx', reason='the extra deploy is not installed')
onnxruntime = pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from onnx import TensorProto, helper  # noqa: E402

from dynq_basicsr.export.base_graph import DOMAIN, LAYER  # noqa: E402
from dynq_basicsr.export.frozen import FrozenLayer  # noqa: E402
from dynq_basicsr.export.graph import attribute  # noqa: E402
from dynq_basicsr.export.portable import PortableAssembler  # noqa: E402
from dynq_basicsr.export.simplify import Base  # noqa: E402
from dynq_basicsr.runtime.grids import Grid, inputs_of  # noqa: E402
from dynq_basicsr.runtime.sessions import open_sessions  # noqa: E402

CODES = {'low': {'one': Grid(np.float32(0.3), 2, 7)}, 'high': {'one': Grid(np.float32(0.01), 130, 255)}}


def layer_of(grid: Grid) -> FrozenLayer:
    """A 3x3 convolution of 4 bits, 2 -> 3 channels."""
    weight = np.random.default_rng(3).integers(-8, 8, (3, 2, 3, 3), np.int8)
    scale, bias = np.array([0.5, 0.25, 0.125], np.float32), np.array([1, 2, 3], np.float32)
    return FrozenLayer('one', weight, scale, 4, bias, grid, padding=(1, 1))


@pytest.fixture(params=['CRD', 'DCR'])
def base(request) -> Base:
    """A pixel shuffle before the layer."""
    nodes = [helper.make_node('DepthToSpace', ['image'], ['shuffled'], blocksize=2, mode=request.param),
             helper.make_node(LAYER, ['shuffled'], ['result'], domain=DOMAIN, name='one')]  # fmt: skip
    nodes[1].attribute.append(helper.make_attribute('name', 'one'))
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in ('image', 'result')]
    return Base(helper.make_model(helper.make_graph(nodes, 'one', values[:1], values[1:])), nodes, {})


def expected(x: np.ndarray, mode: str, grid: Grid) -> np.ndarray:
    """The convolution of the grid's values."""
    if mode == 'DCR':
        samples, channels, *sides = x.shape
        x = x.reshape(samples, 4, channels // 4, *sides).transpose(0, 2, 1, 3, 4).reshape(x.shape)
    pixels = torch.nn.functional.pixel_shuffle(torch.from_numpy(x), 2)
    integers = pixels.div(float(grid.scale)).round().add(grid.zero_point).clamp(0, grid.top).sub(grid.zero_point)
    layer = layer_of(grid)
    weight, bias = torch.from_numpy(layer.float_weight()).double(), torch.from_numpy(layer.bias).double()
    return torch.nn.functional.conv2d(integers.double() * float(grid.scale), weight, bias, padding=1).numpy()


def test_integers_are_moved_and_values_clipped_in_one_pass(base):
    layer = layer_of(CODES['low']['one'])
    model = PortableAssembler(base).assemble({'one': layer}, list(CODES.values()))
    kinds = [node.op_type for node in model.graph.node]
    assert kinds[:4] == ['Clip', 'QuantizeLinear', 'DepthToSpace', 'DequantizeLinear']
    assert {one.name for one in model.graph.input} == {
        'image', 'scale of one', 'zero point of one', 'ceiling of one'
    }  # fmt: skip


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_it_computes_what_the_layer_does_at_any_grid(base, runtime):
    pytest.importorskip(runtime)
    model = PortableAssembler(base).assemble({'one': layer_of(CODES['low']['one'])}, list(CODES.values()))
    content = model.SerializeToString()
    x = np.random.default_rng(1).normal(0, 1, (2, 8, 5, 7)).astype(np.float32)
    if runtime == 'openvino':
        sessions = open_sessions(content, 'one', CODES, runtime)
    else:
        options = onnxruntime.SessionOptions()  # what ONNX Runtime makes of QDQ is not exact
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(content, options)
        taken = [one.name for one in session.get_inputs()]

        def bound(grids):
            given = {'image': x} | inputs_of(grids)
            return lambda x: session.run(None, {name: given[name] for name in taken})[0]

        sessions = {code: bound(grids) for code, grids in CODES.items()}
    for code, grids in CODES.items():
        wanted = expected(x, attribute(base.nodes[0], 'mode'), grids['one'])
        np.testing.assert_allclose(sessions[code](x), wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
