"""Where an integer graph and the fake-quantized network part: the first values that were rounded to another integer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.export.assemble import integers_of
from dynq_basicsr.export.check import layer_values
from dynq_basicsr.export.frozen import bits_of, freeze_layer
from dynq_basicsr.runtime.grids import Grids, inputs_of
from dynq_basicsr.runtime.sessions import onnxruntime_session


@dataclass(frozen=True)
class FirstFlips:
    """Values that were rounded to another integer than in PyTorch, in the first layer where there are any.

    Attributes:
        layer: Its name; empty if there are none.
        count: How many.
        values: Of how many.
        distance: The largest distance of their quotient by the scale from the border of two integers; 0.5 is the most
            that there can be.
    """

    layer: str
    count: int
    values: int
    distance: float


def find_first_flips(
    net: QuantizedSR, bits: Sequence[float], content: bytes, grids: Grids, image: Tensor
) -> FirstFlips:
    """Compare the integers that each layer multiplies, in the order of execution.

    Args:
        net: The fake-quantized network, on the CPU.
        bits: Of its adaptive layers.
        content: The graph.
        grids: What it runs with at these bits; empty where its grids are constants.
        image: (N, C, H, W) in [0, 1], padded if need be.
    """
    layers, inputs = {layer.name: layer for layer in net.quant_layers()}, layer_values(net, image, bits)[0]
    model = onnx.load_from_string(content)
    made = {name for node in model.graph.node for name in node.output}
    names = [name for name in inputs if integers_of(name) in made]
    if not names:
        return FirstFlips('', 0, 0, 0.0)
    model.graph.output.extend(helper.make_tensor_value_info(integers_of(one), TensorProto.UINT8, None) for one in names)
    session = onnxruntime_session(model.SerializeToString())
    given = {'image': image.numpy()} | inputs_of(grids)
    given = {one.name: given[one.name] for one in session.get_inputs()}
    results = session.run([integers_of(name) for name in names], given)
    for name, integers in zip(names, results, strict=True):
        layer, x = layers[name], inputs[name]
        grid = freeze_layer(layer, bits_of(layer, bits)).grid
        quotient = x.div(float(grid.scale))
        expected = np.clip(quotient.round().numpy() + grid.zero_point, 0, grid.top)
        if integers.shape != expected.shape:
            continue  # made before a pixel shuffle, which has another order
        flipped = integers != expected
        if flipped.any():
            fraction = quotient.double().numpy()[flipped] % 1
            return FirstFlips(name, int(flipped.sum()), flipped.size, float(np.abs(fraction - 0.5).max()))
    return FirstFlips('', 0, 0, 0.0)
