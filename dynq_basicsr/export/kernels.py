"""Quantized layers in the operators that ONNX Runtime multiplies in integers, with a float result.

ONNX Runtime's ``QLinearConv`` rounds the bias to the grid of the products and its result to 8 bits, and ``ConvInteger``
is slower than a float convolution. So a convolution becomes a matrix product here: ``Gather`` lays the pixels under the
kernel side by side, ``MatMulIntegerToFloat`` accumulates in int32 and scales, exactly.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, TensorProto

from dynq_basicsr.export.assemble import Assembler, Slot
from dynq_basicsr.export.frozen import FrozenLayer
from dynq_basicsr.export.graph import CONTRIB, attribute, makers_of
from dynq_basicsr.export.kernel_weights import dense, join_pixels, keeps_size, taps_of
from dynq_basicsr.export.pixel_index import PixelIndex
from dynq_basicsr.export.portable import add_portable
from dynq_basicsr.export.simplify import Base
from dynq_basicsr.runtime.grids import top_of

_TO_CHANNELS_LAST, _TO_CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_KERNEL_FIRST = [2, 3, 1, 0]  # (C_out, C, kh, kw) -> (kh, kw, C, C_out)
# A product with fewer columns than this wastes most of a kernel's registers.
_FEW_COLUMNS = 48
# From here on, a gather of all pixels under a kernel costs more than one of rows and one of columns.
_MANY_TAPS = 25
_DEPTH_TO_SPACE = {  # mode: dimensions behind the pixel, their order after the shuffle
    'DCR': (lambda block, channels: [block, block, channels], [0, 1, 3, 2, 4, 5]),
    'CRD': (lambda block, channels: [channels, block, block], [0, 1, 4, 2, 5, 3]),
}


class KernelAssembler(Assembler):
    """Quantized layers for ONNX Runtime.

    Args:
        base: The graph.
        resolutions: See ``base_graph.resolutions``.
    """

    def __init__(self, base: Base, resolutions: dict[str, int]) -> None:
        super().__init__(base)
        self.resolutions = resolutions
        self._makers = makers_of(base.nodes)

    def assemble(self, layers, assignments=()):
        """See ``Assembler``."""
        self._index = None
        return super().assemble(layers, assignments)

    @property
    def index(self) -> PixelIndex:
        """Of the graph that is being written."""
        if self._index is None:
            self._index = PixelIndex(self.writer, self.base.model.graph.input[0].name)
        return self._index

    def add_node(self, node: NodeProto) -> None:
        """Write a node; ``PRelu`` in parts, since ONNX Runtime's takes ten times as long."""
        if node.op_type != 'PRelu' or node.input[1] not in self.base.constants:
            return super().add_node(node)
        writer, (x, slopes) = self.writer, node.input
        if (self.base.constants[slopes] <= 1).all():
            writer.op('Max', x, writer.op('Mul', x, slopes), output=node.output[0])
        else:
            below = writer.op('Mul', writer.op('Clip', x, '', writer.constant(np.float32(0))), slopes)
            writer.op('Add', writer.op('Relu', x), below, output=node.output[0])
        return None

    def add_layer(self, slot: Slot) -> None:
        """Write a layer in integers, or in floats where one of its operands is float."""
        layer = slot.layer
        fits = layer.weight.ndim == 4 and keeps_size(layer)
        if fits and layer.weight[0, 0].size > 1:  # the pixels under the kernel must be looked up
            fits = layer.name in self.resolutions
        if layer.precise and fits:
            self._convolve_precisely(slot)
        elif not layer.integer:
            source = slot.source if layer.grid is None else self.dequantize(*self.quantize(slot.source, layer))
            add_portable(self, slot, source)
        elif layer.weight.ndim == 2:
            self._product(slot, *self.quantize(slot.source, layer), self.weight(layer.weight.T, layer), slot.output)
        elif fits:
            self._convolve(slot)
        else:
            self._convolve_slowly(slot)

    def to_integers(self, source: str, scale: str, zero: str, layer: FrozenLayer, name: str | None) -> str:
        """See ``Assembler``; integers are clipped, a quarter of the bytes of floats."""
        if not self.clips(layer):
            return self.writer.op('QuantizeLinear', source, scale, zero, output=name)
        integers = self.writer.op('QuantizeLinear', source, scale, zero)
        # not Min, which ONNX Runtime before 1.24 (the last for Python 3.10 is older) does not have for bytes
        return self.writer.op('Clip', integers, '', self.number(top_of(layer.name), layer), output=name)

    def dequantize(self, integers: str, scale: str, zero: str = '', axis: int = 0) -> str:
        """As ``PortableAssembler``'s; as arithmetic, since ONNX Runtime rounds biases behind ``DequantizeLinear``."""
        writer = self.writer
        values = writer.op('Cast', integers, to=TensorProto.FLOAT)
        if zero:
            values = writer.op('Sub', values, writer.op('Cast', zero, to=TensorProto.FLOAT))
        elif axis == 0:
            scale = self._reshape(scale, [-1, 1, 1, 1])
        return writer.op('Mul', values, scale)

    def _convolve(self, slot: Slot) -> None:
        """A convolution of stride 1 that keeps the size of what it reads."""
        layer, writer = slot.layer, self.writer
        outputs, channels, height, width = layer.weight.shape
        channels *= layer.groups
        pixels, scale, zero = self._pixels(slot, channels)
        if height > 1 and height * outputs <= _FEW_COLUMNS:
            joined = self._joined(layer, width)
            kernel = join_pixels(dense(layer).transpose(2, 3, 1, 0), joined)
            _, taps, inputs, columns = kernel.shape
            pixels = self._reshape(pixels, [0, 0, -1, inputs])
            pixels = self._neighbours(pixels, layer, (1, taps), inputs, zero, joined)
            flat = kernel.transpose(1, 2, 0, 3).reshape(-1, height * columns)
            sums = writer.op('MatMulInteger', pixels, self.weight(flat, layer), zero)
            total = self._add_rows(sums, layer, height, columns, joined)
            result = self._reshape(self._scaled(total, slot, scale, (-1,), joined), [0, 0, -1, outputs])
        else:
            pixels = self._neighbours(pixels, layer, (height, width), channels, zero)
            result = self._product(slot, pixels, scale, zero, self._matrix(layer))
        writer.op('Transpose', result, output=slot.output, perm=_TO_CHANNELS_FIRST)

    def _convolve_precisely(self, slot: Slot) -> None:
        """A float convolution of stride 1 that keeps the size, as ``FloatConv2d`` with ``float64``: sums in float64."""
        layer, op, constant = slot.layer, self.writer.op, self.writer.constant
        outputs, channels, height, width = (weight := dense(layer)).shape
        matrix = op('Transpose', constant(weight), perm=_KERNEL_FIRST)
        matrix = self._reshape(op('Cast', matrix, to=TensorProto.DOUBLE), [-1, outputs])
        pixels = op('Cast', op('Transpose', slot.source, perm=_TO_CHANNELS_LAST), to=TensorProto.DOUBLE)
        pixels = self._neighbours(pixels, layer, (height, width), channels, constant(np.float64(0)))
        sums = op('MatMul', pixels, matrix)
        sums = op('Add', sums, op('Cast', constant(layer.bias), to=TensorProto.DOUBLE))
        result = op('Cast', sums, to=TensorProto.FLOAT)
        op('Transpose', result, output=slot.output, perm=_TO_CHANNELS_FIRST)

    def _joined(self, layer: FrozenLayer, width: int) -> int:
        """How many pixels side by side to compute as one: fewer, longer copies, for at most half more products."""
        resolution = self.resolutions[layer.name]
        if layer.dilation[1] > 1:
            return 1
        fits = (many for many in (4, 2) if resolution % many == 0 and many * taps_of(width, many) <= 1.5 * width)
        return next(fits, 1)

    def _pixels(self, slot: Slot, channels: int) -> tuple[str, str, str]:
        """The input as integers, (N, H, W, C); scale and zero point.

        A pixel shuffle before it moves integers instead of floats: quantization does not care where a pixel is.
        """
        shuffle, resolution = self._makers.get(slot.source), self.resolutions.get(slot.layer.name)
        shuffled = shuffle is not None and shuffle.op_type == 'DepthToSpace' and resolution is not None
        integers, scale, zero = self.quantize(shuffle.input[0] if shuffled else slot.source, slot.layer)
        pixels = self.writer.op('Transpose', integers, perm=_TO_CHANNELS_LAST)
        if shuffled:
            shape, order = _DEPTH_TO_SPACE[attribute(shuffle, 'mode') or 'DCR']
            pixels = self._reshape(pixels, [0, 0, 0, *shape(attribute(shuffle, 'blocksize'), channels)])
            pixels = self.writer.op('Transpose', pixels, perm=order)
            pixels = self.writer.op('Reshape', pixels, self.index.shape_at(resolution, channels))
        return pixels, scale, zero

    def _neighbours(
        self, pixels: str, layer: FrozenLayer, taps: tuple[int, int], channels: int, border: str, joined: int = 1
    ) -> str:
        """Pixels (N, H, W, C) under the kernel side by side, (N, H, W, taps * C); the border's beyond the image."""
        # a large kernel row by row: copies are few and long then
        for step in [taps] if taps[0] * taps[1] <= _MANY_TAPS else [(1, taps[1]), (taps[0], 1)]:
            if step == (1, 1):
                continue
            pixels = self.index.bordered(pixels, step, layer.dilation, channels, border)
            index = self.index.of(self.resolutions[layer.name], step, layer.dilation, joined)
            pixels = self.writer.op('Gather', pixels, index, axis=0)
            channels *= step[0] * step[1]
            pixels = self._reshape(pixels, [0, 0, 0, channels])
        return pixels

    def _add_rows(self, sums: str, layer: FrozenLayer, height: int, outputs: int, joined: int) -> str:
        """Add what each row of the kernel gives, (N, H, W, kh * C_out) -> (N, H, W, C_out), in int32."""
        writer, taps = self.writer, (height, 1)
        index = self.index.of(self.resolutions[layer.name], taps, layer.dilation, joined)
        index = writer.op('Mul', index, writer.constant(np.int32(height)))
        index = writer.op('Add', index, writer.constant(np.arange(height, dtype=np.int32)))
        rows = self.index.bordered(sums, taps, layer.dilation, outputs, writer.constant(np.int32(0)))
        parts = writer.op('Gather', rows, index, axis=0)  # (N, H, W, kh, C_out)
        return writer.op('ReduceSum', parts, writer.constant(np.array([3])), keepdims=0)

    def _product(self, slot: Slot, source: str, scale: str, zero: str, weight: str, output: str | None = None) -> str:
        """The matrix product with the weight, whose name is that of (K, C_out), scaled, with its bias."""
        layer = slot.layer
        weight_scale, bias = self.writer.constant(layer.weight_scale), self.writer.constant(layer.bias)
        inputs = source, weight, scale, weight_scale, zero, '', bias
        return self.writer.op('MatMulIntegerToFloat', *inputs, domain=CONTRIB, output=output)

    def _matrix(self, layer: FrozenLayer) -> str:
        """The weight of a convolution as (kh * kw * C, C_out), which the runtime lays so when it loads the graph."""
        op, groups, outputs = self.writer.op, layer.groups, len(layer.weight)
        kernel = op('Transpose', self.weight(layer.weight, layer), perm=_KERNEL_FIRST)
        if groups == 1:
            return self._reshape(kernel, [-1, outputs])
        # zeros between groups are not stored
        parts = self._reshape(kernel, [-1, 1, layer.weight.shape[1], groups, outputs // groups])
        own = self.writer.constant(np.eye(groups, dtype=np.int8).reshape(groups, 1, groups, 1))
        whole = op('Mul', *(op('Cast', one, to=TensorProto.INT32) for one in (parts, own)))
        return self._reshape(op('Cast', whole, to=TensorProto.INT8), [-1, outputs])

    def _scaled(
        self, sums: str, slot: Slot, scale: str, shape: tuple[int, ...], joined: int = 1, output: str | None = None
    ) -> str:
        """Sums of integers, of one or several pixels one after the other, scaled, with the bias."""
        writer, layer = self.writer, slot.layer
        parts = layer.weight_scale, layer.bias
        factor, bias = (writer.constant(np.tile(part, joined).reshape(shape)) for part in parts)
        factor = writer.op('Mul', factor, scale)
        scaled = writer.op('Mul', writer.op('Cast', sums, to=TensorProto.FLOAT), factor)
        return writer.op('Add', scaled, bias, output=output)

    def _convolve_slowly(self, slot: Slot) -> None:
        """A convolution of any geometry, by ``ConvInteger``, which is fast for unsigned weights only."""
        layer, writer = slot.layer, self.writer
        integers, scale, zero = self.quantize(slot.source, layer)
        middle = 8 if layer.weight_bits <= 4 else 128
        weight = self.weight((layer.weight.astype(np.int16) + middle).astype(np.uint8), layer)
        sums = writer.op(
            'ConvInteger', integers, weight, zero, writer.constant(np.uint8(middle)), strides=layer.stride,
            pads=layer.padding * 2, dilations=layer.dilation, group=layer.groups,
        )  # fmt: skip
        self._scaled(sums, slot, scale, (-1, 1, 1), output=slot.output)

    def _reshape(self, source: str, shape: list[int]) -> str:
        return self.writer.op('Reshape', source, self.writer.constant(np.array(shape)))
