"""What graphs are written with."""

import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from onnx import TensorProto, helper  # noqa: E402

from dynq_basicsr.export.graph import Writer, finish, take_shared_constants  # noqa: E402
from dynq_basicsr.runtime.sessions import onnxruntime_session  # noqa: E402


def run(writer: Writer, result: str, like: np.ndarray) -> np.ndarray:
    """What a writer's value is."""
    kind = helper.np_dtype_to_tensor_dtype(like.dtype)
    outputs = [helper.make_tensor_value_info(result, kind, like.shape)]
    model = finish(helper.make_model(helper.make_graph([], 'nothing', [], outputs)), writer, 21)
    return onnxruntime_session(model.SerializeToString()).run(None, {})[0]


@pytest.mark.parametrize('count', [1, 6, 7])
@pytest.mark.parametrize('kind, low, high', [('int8', -8, 8), ('uint8', 0, 16)])
def test_integers_of_four_bits_are_stored_so(kind, low, high, count):
    value = np.random.default_rng(0).integers(low, high, (5, count), kind)
    value[0, 0], value[-1, -1] = low, high - 1
    writer = Writer()
    found = run(writer, writer.packed(value), value)
    np.testing.assert_array_equal(found, value)
    assert [len(tensor.raw_data) for tensor in writer.constants.values()] == [-(-value.size // 2)]


def test_equal_constants_are_stored_once():
    writer = Writer()
    value = np.arange(6, dtype=np.int8)
    names = [writer.constant(value), writer.constant(value.copy()), writer.constant(value.astype(np.uint8))]
    assert names[0] == names[1] != names[2] and len(writer.constants) == 2
    writer.packed(value)
    writer.packed(value)
    assert len(writer.constants) == 3


def test_constants_of_two_models_are_stored_once():
    """Two files with one end."""
    value = helper.make_tensor_value_info('result', TensorProto.FLOAT, [3])
    empty = helper.make_model(helper.make_graph([], 'nothing', [], [value]))
    models, wanted = [], []
    for own in (1.0, 2.0):
        writer = Writer()
        for _ in range(int(own)):  # so that names differ
            writer.constant(np.float32(own))
        common = writer.constant(np.arange(3, dtype=np.float32))
        writer.op('Add', common, writer.constant(np.float32(own)), output='result')
        models.append(finish(empty, writer, 21))
        wanted.append(np.arange(3) + own)
    end = take_shared_constants(models)
    assert [len(model.graph.initializer) for model in models] == [1, 1]
    for model, result in zip(models, wanted, strict=True):
        whole = model.SerializeToString() + end
        onnx.checker.check_model(whole)
        np.testing.assert_array_equal(onnxruntime_session(whole).run(None, {})[0], result)


def test_inputs_that_nothing_uses_are_left_out():
    writer = Writer()
    for name in ('a', 'b', 'a'):
        writer.input(name, TensorProto.FLOAT)
    writer.op('Neg', 'a', output='result')
    value = helper.make_tensor_value_info('result', TensorProto.FLOAT, [])
    model = finish(helper.make_model(helper.make_graph([], 'nothing', [], [value])), writer, 21)
    assert [one.name for one in model.graph.input] == ['a']
