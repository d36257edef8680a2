"""Quantized layers as ONNX's quantized form: integers, dequantized, in front of a float operator (QDQ)."""

from __future__ import annotations

import numpy as np

from dynq_basicsr.export.assemble import Assembler, Slot
from dynq_basicsr.export.frozen import FrozenLayer
from dynq_basicsr.export.graph import attribute, makers_of
from dynq_basicsr.export.simplify import Base
from dynq_basicsr.runtime.grids import ceiling_of


class PortableAssembler(Assembler):
    """Quantized layers as QDQ: any runtime takes it, OpenVINO makes integer kernels of it.

    Args:
        base: The graph.
    """

    def __init__(self, base: Base) -> None:
        super().__init__(base)
        self._makers = makers_of(base.nodes)

    def add_layer(self, slot: Slot) -> None:
        """Write it, see ``add_portable``."""
        source = slot.source
        if slot.layer.grid is not None:
            source = self._dequantized(slot)
        add_portable(self, slot, source)

    def _dequantized(self, slot: Slot) -> str:
        """The input, rounded to its grid; before a pixel shuffle, so that it moves integers."""
        shuffle = self._makers.get(slot.source)
        if shuffle is None or shuffle.op_type != 'DepthToSpace':
            return self.dequantize(*self.quantize(slot.source, slot.layer))
        integers, scale, zero = self.quantize(shuffle.input[0], slot.layer)
        how = {key: attribute(shuffle, key) for key in ('blocksize', 'mode') if attribute(shuffle, key) is not None}
        return self.dequantize(self.writer.op('DepthToSpace', integers, **how), scale, zero)

    def to_integers(self, source: str, scale: str, zero: str, layer: FrozenLayer, name: str | None) -> str:
        """See ``Assembler``; values are clipped before they are rounded, which OpenVINO does in one pass."""
        if self.clips(layer):
            source = self.writer.op('Clip', source, '', self.number(ceiling_of(layer.name), layer))
        return self.writer.op('QuantizeLinear', source, scale, zero, output=name)

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


def add_portable(assembler: Assembler, slot: Slot, source: str) -> None:
    """Write a layer as a float operator on the dequantized weight.

    Args:
        assembler: Has ``dequantize``, see ``PortableAssembler``.
        slot: The layer.
        source: Its input, quantized and dequantized if need be.
    """
    layer, writer = slot.layer, assembler.writer
    conv = layer.weight.ndim == 4
    weight = layer.weight if conv else layer.weight.T
    scale, output = layer.weight_scale, slot.output
    flipped = scale is not None and not (scale > 0).all()
    if flipped:  # scales that ONNX does not take: the signs, and zeros, come behind
        signs, scale, output = np.sign(scale), np.where(scale == 0, 1, np.abs(scale)), None
    if scale is None:
        weight = writer.constant(weight)
    else:
        scales = writer.constant(scale.astype(np.float32))
        weight = assembler.dequantize(assembler.weight(weight, layer), scales, axis=0 if conv else 1)
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
