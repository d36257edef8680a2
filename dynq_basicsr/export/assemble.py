"""From a base graph and the layers of one bit assignment to a complete ONNX model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from dynq_basicsr.export.base_graph import DOMAIN, OPSET
from dynq_basicsr.export.frozen import FrozenLayer
from dynq_basicsr.export.graph import Writer, attribute, finish
from dynq_basicsr.export.simplify import Base, shuffled_order


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

    def assemble(self, layers: Mapping[str, FrozenLayer]) -> onnx.ModelProto:
        """Put layers into the graph.

        Args:
            layers: By name; those that the graph does not use are left out.
        """
        writer = self.writer = Writer()
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
        at 255, so fewer levels are clipped.

        Returns:
            Names of the integers (uint8; ``integers_of`` the layer where it runs first), scale and zero point.
        """
        writer, grid, name = self.writer, layer.grid, integers_of(layer.name)
        if name in self._named:
            name = None
        self._named.add(name)
        scale, zero = writer.constant(np.float32(grid.scale)), writer.constant(np.uint8(grid.zero_point))
        if grid.top == 255:
            return writer.op('QuantizeLinear', source, scale, zero, output=name), scale, zero
        integers = writer.op('QuantizeLinear', source, scale, zero)
        # not Min, which ONNX Runtime before 1.24 (the last for Python 3.10 is older) does not have for bytes
        return writer.op('Clip', integers, '', writer.constant(np.uint8(grid.top)), output=name), scale, zero

    def dequantize(self, integers: str, scale: str, zero: str = '', axis: int = 0) -> str:
        """Write integers as floats, ``scale * (integers - zero)``.

        Args:
            integers: Their name.
            scale: One number, or (C,) along the axis.
            zero: Name of the zero point; empty: 0.
            axis: Of the channels.
        """
        inputs = (integers, scale, zero) if zero else (integers, scale)
        return self.writer.op('DequantizeLinear', *inputs, axis=axis)

    def add_portable(self, slot: Slot) -> None:
        """Write a layer as ONNX's quantized form: integers, dequantized, in front of a float operator (QDQ)."""
        layer, writer, source = slot.layer, self.writer, slot.source
        if layer.grid is not None:
            source = self.dequantize(*self.quantize(source, layer))
        conv = layer.weight.ndim == 4
        weight = writer.constant(layer.weight if conv else layer.weight.T)
        scale, output = layer.weight_scale, slot.output
        flipped = scale is not None and not (scale > 0).all()
        if flipped:  # scales that ONNX does not take: the signs, and zeros, come behind
            signs, scale, output = np.sign(scale), np.where(scale == 0, 1, np.abs(scale)), None
        if scale is not None:
            # int8 for 4 bits, too: of int4, OpenVINO makes float weights and a float convolution
            weight = self.dequantize(weight, writer.constant(scale.astype(np.float32)), axis=0 if conv else 1)
        if conv:
            bias = [] if flipped else [writer.constant(layer.bias)]
            result = writer.op(
                'Conv', source, weight, *bias, output=output, strides=layer.stride, pads=layer.padding * 2,
                dilations=layer.dilation, group=layer.groups,
            )  # fmt: skip
        else:
            result = writer.op('MatMul', source, weight)
            if not flipped:
                writer.op('Add', result, writer.constant(layer.bias), output=output)
        if flipped:
            shape = (-1, 1, 1) if conv else (-1,)
            result = writer.op('Mul', result, writer.constant(signs.astype(np.float32).reshape(shape)))
            writer.op('Add', result, writer.constant(layer.bias.reshape(shape)), output=slot.output)


class PortableAssembler(Assembler):
    """Quantized layers as QDQ: any runtime takes it, OpenVINO makes integer kernels of it."""

    def add_layer(self, slot: Slot) -> None:
        """Write it as ``add_portable``."""
        self.add_portable(slot)
