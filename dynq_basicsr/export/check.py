"""Whether exported graphs compute what the network computes, before anybody relies on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper
from torch import Tensor

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.base_graph import DOMAIN, LAYER
from dynq_basicsr.export.frozen import FrozenLayer, grids_of
from dynq_basicsr.export.kernels import KernelAssembler
from dynq_basicsr.export.simplify import Base
from dynq_basicsr.numerics.attention import attention_in_parts, has_fused_attention
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.runtime.grids import Grids, inputs_of
from dynq_basicsr.runtime.sessions import onnxruntime_session, open_session

# Of a layer's result, relative to its largest value, where float32 does not hold every sum of integers.
_FLOAT32 = 1e-5
# Of the float network's result, relative to its largest value.
_FLOAT_TOLERANCE = 1e-4
# Up to here it is the order of sums, beyond it the graph is another one.
_OTHER_ORDER = 1e-2
_SIZES = ((2, 24, 40), (1, 40, 24), (3, 17, 25))  # samples, height, width


@dataclass(frozen=True)
class Agreement:
    """How many 8-bit values of two results agree.

    Attributes:
        equal: Share of equal values.
        within_one: Share of values at most one level apart.
    """

    equal: float
    within_one: float


def agreement(one: np.ndarray, other: np.ndarray) -> Agreement:
    """Compare two results in [0, 1], of any shape, as 8-bit images."""
    levels = [np.round(np.clip(result.astype(np.float64), 0, 1) * 255) for result in (one, other)]
    apart = np.abs(levels[0] - levels[1])
    return Agreement(float((apart == 0).mean()), float((apart <= 1).mean()))


def trial_images(net: QuantizedSR) -> list[Tensor]:
    """Images of several sizes and counts, (N, C, H, W) in [0, 1]: smooth from one corner, noise from the other."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for samples, *sides in _SIZES:
        height, width = (net.sizes.padded(side) for side in sides)
        noise = torch.rand(samples, net.input_channels, height, width, generator=generator)
        coarse = torch.rand(samples, net.input_channels, 4, 4, generator=generator)
        smooth = F.interpolate(coarse, (height, width), mode='bicubic', align_corners=True)
        images.append(torch.lerp(smooth, noise, torch.linspace(0, 1, width)).clamp(0, 1))
    return images


@torch.no_grad()
def check_layers(
    net: QuantizedSR, bits: Sequence[float], layers: Mapping[str, FrozenLayer], resolutions: Mapping[str, int]
) -> None:
    """Hold every integer layer by itself against PyTorch: the same input gives the same numbers, to the last bit.

    Args:
        net: The network.
        bits: Of each adaptive layer.
        layers: The same layers frozen at these bits.
        resolutions: See ``base_graph.resolutions``.

    Raises:
        DynqError: Names the first layer that differs.
    """
    taken = {layer.name: layer for layer in net.quant_layers() if layers[layer.name].integer}
    if not taken:
        return
    image = trial_images(net)[0]
    inputs, outputs = layer_values(net, image, bits)
    feeds = {'image': image} | {f'input {name}': inputs[name] for name in taken}
    grids = grids_of(layers)
    session = onnxruntime_session(_layers_alone(feeds, layers, resolutions, grids).SerializeToString())
    given = {name: x.numpy() for name, x in feeds.items()} | inputs_of(grids)
    given = {one.name: given[one.name] for one in session.get_inputs()}
    results = session.run([f'output {name}' for name in taken], given)
    for name, result in zip(taken, results, strict=True):
        expected = outputs[name]
        tolerance = _FLOAT32 * float(expected.abs().max()) if layers[name].largest_sum >= 2**24 else 0
        if not torch.allclose(torch.from_numpy(result), expected, rtol=0, atol=tolerance):
            raise DynqError(f'{name}: its integers do not give the numbers of the network; not exported. Report this.')


def _layers_alone(
    feeds: Mapping[str, Tensor], layers: Mapping[str, FrozenLayer], resolutions: Mapping[str, int], grids: Grids
) -> onnx.ModelProto:
    """A model that runs every layer on an input of its own."""
    names = [name.removeprefix('input ') for name in feeds if name != 'image']
    nodes = [helper.make_node(LAYER, [f'input {name}'], [f'output {name}'], domain=DOMAIN) for name in names]
    for node, name in zip(nodes, names, strict=True):
        node.attribute.append(helper.make_attribute('name', name))
    graph = helper.make_graph(
        nodes, 'layers',
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * x.dim()) for name, x in feeds.items()],
        [
            helper.make_tensor_value_info(f'output {name}', TensorProto.FLOAT, [None] * feeds[f'input {name}'].dim())
            for name in names
        ],
    )  # fmt: skip
    base = Base(helper.make_model(graph), nodes, {})
    return KernelAssembler(base, dict(resolutions)).assemble(layers, [grids])


@torch.no_grad()
def check_skeleton(net: QuantizedSR, model: onnx.ModelProto) -> None:
    """Hold a graph whose layers are left float against the float network, at several sizes and numbers of images.

    Args:
        net: The network.
        model: The graph.

    Raises:
        DynqError: If the graph does not follow the image, as where PyTorch's exporter took a size for a constant.
    """
    session = open_session(model.SerializeToString(), 'the graph')
    for image in trial_images(net):
        with attention_in_parts():
            expected = net.run_backbone(image)
        try:
            result = torch.from_numpy(session(image.numpy()))
        except DynqError:
            result = torch.empty(0)
        apart = math.inf
        if result.shape == expected.shape:
            apart = float((result - expected).abs().max() / expected.abs().max())
        name = type(net.backbone).__name__
        if _FLOAT_TOLERANCE < apart <= _OTHER_ORDER:
            raise DynqError(
                f'{name}: its ONNX graph sums float numbers in another order, and results differ by {apart:.1g} of the '
                f'largest value, {_FLOAT_TOLERANCE:g} at most being allowed: so many roundings would differ that it '
                'runs in PyTorch only.'
            )
        if not apart <= _FLOAT_TOLERANCE:
            fused = ' (nn.MultiheadAttention can be exported on windows of one size only)'
            raise DynqError(
                f'{name}: its ONNX graph does not give the numbers of the network for {len(image)} images of '
                f'{image.shape[3]} x {image.shape[2]} pixels, so it is not exported: something in it depends on the '
                f'size in a way that tracing does not see{fused if has_fused_attention(net) else ""}.'
            )


def layer_values(
    net: QuantizedSR, image: Tensor, bits: Sequence[float]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and outputs of the quantized layers while the network runs as in ``run_at``, in the order of execution.

    Of a layer that runs more than once, those of the first run.
    """
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def note(layer: QuantLayer, given: tuple, output: Tensor) -> None:
        if layer.name not in inputs:  # copies, since activations may work in place
            inputs[layer.name], outputs[layer.name] = given[0].clone(), output.clone()

    hooks = [layer.register_forward_hook(note) for layer in net.quant_layers()]
    try:
        run_at(net, image, bits)
    finally:
        for hook in hooks:
            hook.remove()
    return inputs, outputs


@torch.no_grad()
def run_at(net: QuantizedSR, image: Tensor, bits: Sequence[float]) -> Tensor:
    """Run the quantized network, exactly, at given bits of its adaptive layers, whatever its policy says."""
    return net(image, mode=Mode.EXACT, bits=torch.tensor(bits))
