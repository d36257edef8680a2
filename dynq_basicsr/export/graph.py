"""Writing and tidying ONNX graphs: just what the passes of this room need."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

CONTRIB = 'com.microsoft'  # operators that ONNX Runtime adds


class Writer:
    """Collects nodes and constants; equal constants are written once.

    Attributes:
        nodes: In topological order.
        constants: By name.
    """

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self._known: dict[tuple, str] = {}
        self._counts: Counter[str] = Counter()

    def constant(self, value: np.ndarray, int4: bool = False) -> str:
        """Add a constant.

        Args:
            value: Any array.
            int4: Store -8..7 as four bits each.

        Returns:
            Its name.
        """
        value = np.asarray(value)
        key = value.dtype.str, value.shape, value.tobytes(), int4
        if key not in self._known:
            name = self._known[key] = self._name('constant')
            if int4:
                tensor = helper.make_tensor(name, TensorProto.INT4, value.shape, value.flatten().tolist())
            else:
                tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
            self.constants[name] = tensor
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
    graph = helper.make_graph(nodes, 'dynq', list(base.graph.input), list(base.graph.output), constants)
    domains = {'': opset} | ({CONTRIB: 1} if any(node.domain == CONTRIB for node in nodes) else {})
    imports = [helper.make_opsetid(domain, version) for domain, version in domains.items()]
    model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version, producer_name='dynq_basicsr')
    onnx.checker.check_model(model)
    return model
