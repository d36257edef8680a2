"""Graphs as functions, whatever number of samples they take."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.deploy.sessions import open_session  # noqa: E402
from dynq_basicsr.errors import DynqError  # noqa: E402


def graph(samples) -> bytes:
    """Adds 1."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    one = onnx.numpy_helper.from_array(np.float32(1), 'one')
    values = [helper.make_tensor_value_info(name, kind, [samples, 3, 'h', 'w']) for name in ('image', 'result')]
    body = helper.make_graph(
        [helper.make_node('Add', ['image', 'one'], ['result'])], 'one', values[:1], values[1:], [one]
    )
    return helper.make_model(body, opset_imports=[helper.make_opsetid('', 17)], ir_version=9).SerializeToString()


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
@pytest.mark.parametrize('samples', ['n', 1])
def test_any_number_of_samples(runtime, samples):
    pytest.importorskip(runtime)
    session = open_session(graph(samples), 'some.onnx', runtime, threads=1)
    for count in (1, 3):
        x = np.random.default_rng(0).random((count, 3, 4, 5), np.float32)
        np.testing.assert_array_equal(session(x), x + 1)


def test_inputs_that_do_not_fit():
    with pytest.raises(DynqError, match=r'some\.onnx: onnxruntime failed on an input of \(1, 4, 2, 2\)'):
        open_session(graph('n'), 'some.onnx')(np.zeros((1, 4, 2, 2), np.float32))
