"""What a network costs: MACs per layer, BitOPs, model size, feature average bit-width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dynq_basicsr.config.quantization import FLOAT_BITS
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.selection import PROBE_SIZE

_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.PReLU)


@dataclass(frozen=True)
class NetworkCost:
    """Operations per pixel of the input image.

    Attributes:
        layer_macs: Multiply-accumulates of each quantized layer, by name.
        weight_bits: Bits of the weights of each of them.
        float_macs: Multiply-accumulates of everything else.
        elementwise: Additions of biases and activation functions, one operation an element; always float.
    """

    layer_macs: dict[str, float]
    weight_bits: dict[str, int]
    float_macs: float
    elementwise: float

    def bitops(self, pixels: float, layer_bits: Mapping[str, float]) -> tuple[float, float]:
        """BitOPs of the quantized and of the float part: 2 * MACs * b_w * b_a, 32 * 32 for an operation in float.

        Args:
            pixels: Number of input pixels.
            layer_bits: Mean activation bits of each quantized layer; a missing layer counts as float.

        Returns:
            (quantized, float), in operations times bits.
        """
        quantized = 0.0
        for name, macs in self.layer_macs.items():
            bits = layer_bits.get(name)
            quantized += 2 * macs * (FLOAT_BITS**2 if bits is None else self.weight_bits[name] * bits)
        floating = (2 * self.float_macs + self.elementwise) * FLOAT_BITS**2
        return pixels * quantized, pixels * floating


@torch.no_grad()
def measure_cost(net: nn.Module, in_channels: int = 3) -> NetworkCost:
    """Count operations with one float forward on zeros.

    Args:
        net: A network, quantized or not.
        in_channels: Channels of the image it takes.
    """
    sizes = getattr(getattr(net, 'image_format', None), 'sizes', None)
    size = sizes.padded(PROBE_SIZE) if sizes else PROBE_SIZE
    pixels = size**2
    layers = {module: module.name for module in net.modules() if isinstance(module, QuantLayer)}
    layer_macs = dict.fromkeys(layers.values(), 0.0)
    elementwise = 0.0

    def count(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        nonlocal elementwise
        if isinstance(module, _ACTIVATIONS) or getattr(module, 'bias', None) is not None:
            elementwise += output.numel() / pixels
        if module in layers:
            per_output = module.weight[0].numel()
            layer_macs[layers[module]] += output.numel() * per_output / pixels

    counted = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, *_ACTIVATIONS)
    hooks = [module.register_forward_hook(count) for module in net.modules() if isinstance(module, counted)]
    parameter = next(net.parameters())
    training = net.training
    try:
        with FlopCounterMode(display=False) as counter:
            # the bare backbone, which is the float network; a wrapper would do no more than pad
            getattr(net, 'backbone', net).eval()(
                torch.zeros(1, in_channels, size, size, device=parameter.device, dtype=parameter.dtype)
            )
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    total = counter.get_total_flops() / 2 / pixels
    weight_bits = {name: layer.options.weight.bits for layer, name in layers.items()}
    return NetworkCost(layer_macs, weight_bits, total - sum(layer_macs.values()), elementwise)


def model_size(net: nn.Module) -> float:
    """Number of parameters, a quantized weight counting b_w / 32 (AdaBM Table 5).

    Everything else counts whole: biases, float layers, and each scalar that quantizers and policy add. Offsets of
    learned rounding are no part of the deployed network, which holds the rounded weights.

    Args:
        net: A network, quantized or not.
    """
    size = float(sum(parameter.numel() for parameter in net.parameters()))
    for layer in net.modules():
        if isinstance(layer, QuantLayer):
            size -= layer.weight.numel() * (1 - layer.options.weight.bits / FLOAT_BITS)
            size -= layer.weight.numel() if layer.weight_range.offset is not None else 0
    return size
