"""Constants in an ONNX file, as the package onnx reads them."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from dynq_basicsr.runtime.onnx_bytes import with_constants  # noqa: E402


def model() -> bytes:
    """A graph with a constant of its own."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ('x', 'y', 'z')]
    own = numpy_helper.from_array(np.arange(300, dtype=np.float32), 'own')
    graph = helper.make_graph([helper.make_node('Mul', ['x', 'y'], ['z'])], 'one', values[:2], values[2:], [own])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 21)], ir_version=10).SerializeToString()


@pytest.mark.parametrize('count', [1, 3, 200])  # lengths of one, two and three groups of seven bits
def test_they_are_added_and_nothing_else_changes(count):
    values = {f'{"é" * number} {number}': np.array(number / 7, np.float32) for number in range(count)}
    values['byte'] = np.array(200, np.uint8)
    found = onnx.load_from_string(with_constants(model(), values))
    own, *added = found.graph.initializer
    assert {one.name: numpy_helper.to_array(one) for one in added} == values
    assert all(numpy_helper.to_array(one).dtype == values[one.name].dtype and not one.dims for one in added)
    del found.graph.initializer[:]
    found.graph.initializer.append(own)
    assert found == onnx.load_from_string(model())


def test_no_constants():
    assert with_constants(model(), {}) == model()


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_runtimes_take_them(runtime):
    package = pytest.importorskip(runtime)
    content = with_constants(model(), {'y': np.array(3, np.float32), 'other': np.array(3, np.uint8)})
    if runtime == 'onnxruntime':
        found = package.InferenceSession(content).run(None, {'x': np.array(2, np.float32)})[0]
    else:
        core = package.Core()
        compiled = core.compile_model(core.read_model(content), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
        assert len(compiled.inputs) == 1
        found = compiled([np.array(2, np.float32)])[0]
    assert found == 6
