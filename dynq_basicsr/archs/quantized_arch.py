"""The one wrapper: any registered backbone, quantized with content-adaptive bit-widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from dynq_basicsr.archs.arch_options import build_backbone, network_options, size_multiple
from dynq_basicsr.archs.padding import run_padded
from dynq_basicsr.backbones.profiles import PROFILES
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.registry import build_policy, policy_options
from dynq_basicsr.quantization.context import BitContext, BitTrace
from dynq_basicsr.quantization.layers import QUANTIZED_CLASSES, QuantLayer, quantize_layer
from dynq_basicsr.quantization.options import QuantizationOptions
from dynq_basicsr.quantization.selection import generic_layers, select_layers


class QuantizedSR(nn.Module):
    """A backbone whose chosen layers are fake-quantized, at bits that a policy decides for each image.

    The backbone's own class and code stay as they are: its layers are changed in place and ask a shared context for
    their bits. Samples are independent: a batch of N images equals N batches of one.

    Args:
        backbone: Options of a registered architecture, ``{type: EDSR, ...}``.
        quantization: See ``QuantizationOptions``; ``None`` or 32 bits leaves the network float.
        policy: ``{type: AdaBM | Fixed, ...}``; ``None`` means ``Fixed``.

    Attributes:
        description: The three sections as they take effect, as plain values; checkpoints carry it.
        size_multiple: Of what the backbone wants image sides to be multiples; ``forward`` pads to it.

    Raises:
        DynqError: If the architecture is not registered, or an option or pattern is wrong.
    """

    def __init__(self, backbone: Mapping, quantization: Mapping | None = None, policy: Mapping | None = None) -> None:
        super().__init__()
        self.context = BitContext()
        self.backbone = build_backbone(backbone)
        self.quantization = QuantizationOptions.from_dict(quantization)
        self.size_multiple = size_multiple(backbone)
        names, rule = self._choose_layers(backbone) if self.quantization.enabled else ([], 'quantization is off')
        modules = dict(self.backbone.named_modules())
        for index, name in enumerate(names):
            quantize_layer(modules[name], name, index, self.quantization, self.context)
        self.policy = build_policy(policy, len(names), self.quantization.activation)
        self.description = {
            'backbone': network_options(backbone),
            'quantization': asdict(self.quantization),
            'policy': policy_options(policy),
        }
        self.register_buffer('calibrated', torch.tensor(not names))
        self._log_layers(rule)

    def _choose_layers(self, backbone: Mapping) -> tuple[list[str], str]:
        options, profile = self.quantization, PROFILES.get(backbone['type'].removesuffix('_basicsr'))
        exclude = list(options.exclude)
        if options.layers:
            names, rule = select_layers(self.backbone, options.layers), 'patterns of the option file'
        elif profile:
            names, rule = select_layers(self.backbone, profile.body), f'profile of {backbone["type"]}'
            if profile.float_ends:
                names = names[1:-1]
        else:
            names = generic_layers(self.backbone, backbone.get('num_in_ch', backbone.get('in_chans', 3)))
            rule = 'generic rule: convolutions at the input resolution but the first and the last; no linear layers'
        dropped = set(select_layers(self.backbone, exclude)) if exclude else set()
        return [name for name in names if name not in dropped], rule

    def _log_layers(self, rule: str) -> None:
        quantized = {layer.name for layer in self.quant_layers()}
        floating = [
            name
            for name, module in self.backbone.named_modules()
            if isinstance(module, tuple(QUANTIZED_CLASSES)) and name not in quantized
        ]
        bits = self.quantization
        get_root_logger().info(
            f'{type(self.backbone).__name__}: {len(quantized)} layers quantized ({rule}) with '
            f'{bits.weight.bits}-bit weights ({bits.weight.granularity}), activations of {bits.activation.bits} bits, '
            f'{type(self.policy).__name__} within {list(bits.activation.bits_range)}: {", ".join(sorted(quantized))}. '
            f'{len(floating)} layers stay float: {", ".join(floating)}.'
        )

    def quant_layers(self) -> list[QuantLayer]:
        """The quantized layers, in the order of their indices."""
        return [module for module in self.backbone.modules() if isinstance(module, QuantLayer)]

    def forward(self, x: Tensor) -> Tensor:
        """Super-resolve images.

        Args:
            x: (N, C, H, W) in [0, 1].

        Returns:
            (N, C, scale * H, scale * W).

        Raises:
            DynqError: If the network was never calibrated.
        """
        if not self.context.quantizing:
            return run_padded(self.backbone, x, self.size_multiple)
        if not self.calibrated:
            raise DynqError(
                'The quantized network was never calibrated; train it with an AdaBM option file, '
                'or load a calibrated checkpoint with path.pretrain_network_g.'
            )
        with self.context.deciding(self.policy.decide(x)):
            return run_padded(self.backbone, x, self.size_multiple)

    @contextmanager
    def floating(self) -> Iterator[None]:
        """Behave as the bare float backbone, bit for bit, within this block."""
        with self.context.floating():
            yield

    @contextmanager
    def tracing(self) -> Iterator[BitTrace]:
        """Record which bits each layer uses within this block."""
        with self.context.tracing() as trace:
            yield trace
