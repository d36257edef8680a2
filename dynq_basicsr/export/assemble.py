"""From a base graph and quantized layers to a complete ONNX model, for one bit assignment or for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from dynq_basicsr.export.base_graph import DOMAIN, OPSET
from dynq_basicsr.export.frozen import FrozenLayer
from dynq_basicsr.export.graph import Writer, attribute, finish
from dynq_basicsr.export.simplify import Base, shuffled_order
from dynq_basicsr.runtime.grids import HIGHEST, Grids, scale_of, zero_point_of


def integers_of(layer: str) -> str:
    """Name of the integers that a layer multiplies, in the graph."""
    return f'integers of {layer}'


@dataclass(frozen=True)
class Slot:
    """A layer in its place.

    Attributes:
        layer: Its integers, output channels in the order that the graph wants.
        source: Name of its input.
        output: Name of its output.
    """

    layer: FrozenLayer
    source: str
    output: str


class Assembler:
    """Writes every node of a base graph; how layers look is up to the subclasses.

    Args:
        base: The graph.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.writer = Writer()

    def assemble(self, layers: Mapping[str, FrozenLayer], assignments: Sequence[Grids] = ()) -> onnx.ModelProto:
        """Put layers into the graph.

        Args:
            layers: By name; those that the graph does not use are left out.
            assignments: Where the graph shall serve several bit assignments, the grids of each: the numbers of grids
                are inputs then, see ``runtime.grids``. None: they are constants, those of the layers.
        """
        writer = self.writer = Writer()
        self._assignments = assignments
        self._named: set[str] = set()
        for name, value in self.base.constants.items():
            writer.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        for node in self.base.nodes:
            if node.domain == DOMAIN:
                self.add_layer(self._slot(layers[attribute(node, 'name')], node))
            else:
                self.add_node(node)
        return finish(self.base.model, writer, OPSET)

    def _slot(self, layer: FrozenLayer, node: NodeProto) -> Slot:
        if layer.name in self.base.shuffled:
            layer = layer.permuted(shuffled_order(len(layer.bias), self.base.shuffled[layer.name]))
        return Slot(layer, node.input[0], node.output[0])

    def add_node(self, node: NodeProto) -> None:
        """Write a node that is no quantized layer."""
        self.writer.nodes.append(node)

    def add_layer(self, slot: Slot) -> None:
        """Write a quantized layer."""
        raise NotImplementedError

    def quantize(self, source: str, layer: FrozenLayer) -> tuple[str, str, str]:
        """Quantize a value to integers 0 .. top.

        ``QuantizeLinear`` divides, rounds half to even and saturates, as ``fake_quantize_activation`` does, but always
        at 255; ``to_integers`` takes care of fewer levels.

        Returns:
            Names of the integers (uint8; ``integers_of`` the layer where it runs first), scale and zero point.
        """
        name = integers_of(layer.name)
        if name in self._named:
            name = None
        self._named.add(name)
        scale, zero = self.number(scale_of(layer.name), layer), self.number(zero_point_of(layer.name), layer)
        return self.to_integers(source, scale, zero, layer, name), scale, zero

    def to_integers(self, source: str, scale: str, zero: str, layer: FrozenLayer, name: str | None) -> str:
        """Write the part of ``quantize`` that needs nodes; gives the name of the integers."""
        raise NotImplementedError

    def number(self, name: str, layer: FrozenLayer) -> str:
        """A number of a layer's grid, by its name in ``runtime.grids``: a constant, or an input of that name."""
        value = layer.grid.inputs(layer.name)[name]
        if not self._assignments:
            return self.writer.constant(value)
        return self.writer.input(name, helper.np_dtype_to_tensor_dtype(value.dtype))

    def clips(self, layer: FrozenLayer) -> bool:
        """Whether there are fewer levels than bytes have, in any of the bit assignments."""
        grids = [grids[layer.name] for grids in self._assignments] or [layer.grid]
        return any(grid.top < HIGHEST for grid in grids)

    def weight(self, weight: np.ndarray, layer: FrozenLayer) -> str:
        """Write the weight of a layer, laid out in any way, as bytes; where four bits hold it, it is stored so."""
        return self.writer.packed(weight) if layer.weight_bits <= 4 else self.writer.constant(weight)
