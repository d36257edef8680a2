"""Writing and tidying ONNX graphs: just what the passes of this room need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

CONTRIB = 'com.microsoft'  # operators that ONNX Runtime adds
_NIBBLES = {'int8': (TensorProto.INT4, TensorProto.INT8), 'uint8': (TensorProto.UINT4, TensorProto.UINT8)}


class Writer:
    """Collects nodes and constants; equal constants are written once.

    Attributes:
        nodes: In topological order.
        constants: By name.
        inputs: Those of the model beside the base model's, by name.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.inputs: dict[str, ValueInfoProto] = {}
        self._known: dict[tuple, str] = {}
        self._counts: Counter[str] = Counter()

    def constant(self, value: np.ndarray) -> str:
        """Add a constant, any array; returns its name."""
        value = np.asarray(value)
        array = np.ascontiguousarray(value).reshape(value.shape)
        return self._once(value, value.dtype.str, lambda name: numpy_helper.from_array(array, name))

    def packed(self, value: np.ndarray) -> str:
        """Add integers that are stored as four bits each, and widened.

        Args:
            value: -8..7 as int8, or 0..15 as uint8.

        Returns:
            Name of the same as bytes.
        """
        kind, wide = _NIBBLES[value.dtype.name]
        stored = self._once(value, 'packed', lambda name: helper.make_tensor(
            name, kind, value.shape, pack(value).tobytes(), raw=True
        ))  # fmt: skip
        return self.op('Cast', stored, to=wide)

    def input(self, name: str, kind: int) -> str:
        """Let the model have one number as an input, of a type of ``TensorProto``; returns its name."""
        self.inputs.setdefault(name, helper.make_tensor_value_info(name, kind, []))
        return name

    def _once(self, value: np.ndarray, kind: str, make: Callable[[str], TensorProto]) -> str:
        key = kind, value.shape, value.tobytes()
        if key not in self._known:
            name = self._known[key] = self._name('constant')
            self.constants[name] = make(name)
        return self._known[key]

    def op(self, kind: str, *inputs: str, domain: str = '', output: str | None = None, **attributes: object) -> str:
        """Add a node with one output.

        Args:
            kind: Operator.
            inputs: Names; an empty one leaves an optional input out.
            domain: Of the operator.
            output: Its name; None: a new one.
            attributes: Of the operator.

        Returns:
            Name of the output.
        """
        output = output or self._name(kind)
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def _name(self, kind: str) -> str:
        self._counts[kind] += 1
        return f'{kind.lower()}_{self._counts[kind]}'


def pack(value: np.ndarray) -> np.ndarray:
    """Integers of four bits, any shape, in bytes, (ceil(size / 2),): the first is the lower half."""
    nibbles = value.flatten().astype(np.uint8) & 15
    nibbles = np.append(nibbles, np.zeros(nibbles.size % 2, np.uint8)).reshape(-1, 2)
    return nibbles[:, 0] | nibbles[:, 1] << 4


def users(nodes: list[NodeProto]) -> Counter[str]:
    """How many inputs of nodes each value is."""
    return Counter(name for node in nodes for name in node.input)


def makers_of(nodes: list[NodeProto]) -> dict[str, NodeProto]:
    """The node that makes each value."""
    return {name: node for node in nodes for name in node.output}


def attribute(node: NodeProto, name: str) -> object:
    """An attribute of a node as a plain value; text as str; None where it is not set."""
    for one in node.attribute:
        if one.name == name:
            value = helper.get_attribute_value(one)
            return value.decode() if isinstance(value, bytes) else value
    return None


def take_shared_constants(models: Sequence[onnx.ModelProto]) -> bytes:
    """Take the constants that several models have in common out of each.

    Args:
        models: Changed: without those constants, which are renamed in their nodes.

    Returns:
        The end of each model's file: behind what is left of a model, it makes the whole of it, since protocol buffers
        merge what is appended.
    """
    contents = [{_content(one): one.name for one in model.graph.initializer} for model in models]
    common = [content for content in contents[0] if all(content in others for others in contents[1:])]
    end = onnx.ModelProto()
    for number, content in enumerate(common):
        tensor = end.graph.initializer.add()
        tensor.ParseFromString(content)
        tensor.name = f'shared_{number}'
    for model, known in zip(models, contents, strict=True):
        names = {known[content]: f'shared_{number}' for number, content in enumerate(common)}
        kept = [one for one in model.graph.initializer if one.name not in names]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        for node in model.graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
    return end.SerializeToString()


def _content(tensor: TensorProto) -> bytes:
    """A tensor without its name."""
    nameless = TensorProto()
    nameless.CopyFrom(tensor)
    nameless.ClearField('name')
    return nameless.SerializeToString()


def without_dead_nodes(nodes: list[NodeProto], outputs: list[str]) -> list[NodeProto]:
    """The nodes that outputs depend on, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def finish(base: onnx.ModelProto, writer: Writer, opset: int, ir_version: int = 10) -> onnx.ModelProto:
    """A model with the inputs and outputs of a base model and the nodes of a writer, checked."""
    nodes = without_dead_nodes(writer.nodes, [output.name for output in base.graph.output])
    used = users(nodes)
    constants = [tensor for name, tensor in writer.constants.items() if used[name]]
    inputs = [*base.graph.input, *(value for name, value in writer.inputs.items() if used[name])]
    graph = helper.make_graph(nodes, 'dynq', inputs, list(base.graph.output), constants)
    domains = {'': opset} | ({CONTRIB: 1} if any(node.domain == CONTRIB for node in nodes) else {})
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name='dynq_basicsr')
    onnx.checker.check_model(model)
    return model
