"""Graphs as functions, whatever number of samples they take."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.errors import DynqError  # noqa: E402
from dynq_basicsr.runtime.sessions import has_vnni, open_session  # noqa: E402


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


@pytest.mark.parametrize('text, known', [
    ('processor : 0\nflags\t\t: fpu avx512_vnni avx512f\n', True), ('flags : fpu avx_vnni\n', True),
    ('flags : fpu avx2\nmodel name : vnni\n', False), ('Features : asimddp\n', False), (None, False),
])  # fmt: skip
def test_processors_that_need_no_care(tmp_path, text, known):
    if text is not None:
        (tmp_path / 'cpuinfo').write_text(text)
    assert has_vnni(tmp_path / 'cpuinfo') is known


def test_bytes_at_their_limits_are_multiplied_exactly():
    """255 * 127 twice is more than 16 bits hold."""
    helper = onnx.helper
    weight = onnx.numpy_helper.from_array(np.full((64, 64), 127, np.int8), 'weight')
    values = [helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, [1, 64]),
              helper.make_tensor_value_info('result', onnx.TensorProto.FLOAT, [1, 64])]  # fmt: skip
    nodes = [
        helper.make_node('Cast', ['x'], ['bytes'], to=onnx.TensorProto.UINT8),
        helper.make_node('MatMulInteger', ['bytes', 'weight'], ['sums']),
        helper.make_node('Cast', ['sums'], ['result'], to=onnx.TensorProto.FLOAT),
    ]
    body = helper.make_graph(nodes, 'product', values[:1], values[1:], [weight])
    content = helper.make_model(body, opset_imports=[helper.make_opsetid('', 17)], ir_version=9).SerializeToString()
    found = open_session(content, 'product.onnx')(np.full((1, 64), 255, np.float32))
    np.testing.assert_array_equal(found, np.full((1, 64), 255 * 127 * 64, np.float32))
