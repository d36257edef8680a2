"""scripts/profile_graph.py: what it counts of a graph."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

pytest.importorskip('onnx', reason='the extra deploy is not installed')
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')


def test_every_kernel_of_a_run_once(load_script):
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node('MatMul', ['x', 'w'], ['y']), helper.make_node('MatMul', ['y', 'w'], ['z']),
             helper.make_node('Tanh', ['z'], ['t'])]  # fmt: skip
    weight = numpy_helper.from_array(np.ones((64, 64), np.float32), 'w')
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 64]) for name in 'xt']
    model = helper.make_model(
        helper.make_graph(nodes, 'tiny', values[:1], values[1:], [weight]),
        opset_imports=[helper.make_opsetid('', 21)], ir_version=10,
    )  # fmt: skip
    times, numbers = load_script('profile_graph').profile(
        model.SerializeToString(), np.ones((4096, 64), np.float32), threads=1, runs=4
    )
    assert numbers == {'MatMul': pytest.approx(2), 'Tanh': pytest.approx(1)}
    assert set(times) == set(numbers) and 0 < min(times.values()) and sum(times.values()) < 1000


def test_products_are_told_apart(load_script):
    times = Counter({'Gather': 2.0, 'MatMulIntegerToFloat': 5.0, 'MatMulInteger': 1.0})
    text = load_script('profile_graph').table(times, Counter({'Gather': 3, 'MatMulIntegerToFloat': 2}))
    rows = text.splitlines()
    assert rows[2] == '| MatMulIntegerToFloat | 2 | 5.00 | 62.5% |'
    assert rows[-2:] == ['| **all** | 5 | 8.00 | 100.0% |', '| **products** |  | 6.00 | 75.0% |']
