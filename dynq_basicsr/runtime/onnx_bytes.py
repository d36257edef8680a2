"""Numbers put into an ONNX file, where the package ``onnx`` is not installed.

An ONNX file is a protocol buffer, and those merge what is appended: of two messages one behind the other, repeated
fields are joined (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Field numbers of onnx.proto: of ModelProto, of GraphProto, and of TensorProto.
_GRAPH, _INITIALIZER = 7, 5
_DATA_TYPE, _NAME, _RAW_DATA = 2, 8, 9
_TYPES = {'float32': 1, 'uint8': 2}  # TensorProto.DataType


def with_constants(content: bytes, values: Mapping[str, np.ndarray]) -> bytes:
    """Turn inputs of a graph into constants.

    Args:
        content: An ONNX file.
        values: Scalars by the names of inputs, float32 or uint8; those that are no inputs do nothing.
    """
    tensors = b''.join(_field(_INITIALIZER, _scalar(name, value)) for name, value in values.items())
    return content + _field(_GRAPH, tensors) if tensors else content


def _scalar(name: str, value: np.ndarray) -> bytes:
    """A TensorProto without dimensions."""
    kind = bytes([_DATA_TYPE << 3, _TYPES[value.dtype.name]])
    data = value.astype(value.dtype.newbyteorder('<')).tobytes()
    return kind + _field(_NAME, name.encode()) + _field(_RAW_DATA, data)


def _field(number: int, content: bytes) -> bytes:
    """A field that holds bytes: its number and type, their count in groups of seven bits, and they."""
    count, groups = len(content), []
    while count > 127:
        groups.append(count & 127 | 128)
        count >>= 7
    return bytes([number << 3 | 2, *groups, count]) + content
