"""The one wrapper: any registered backbone, quantized with content-adaptive bit-widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from dynq_basicsr.archs.arch_options import build_backbone, network_options, size_requirement
from dynq_basicsr.archs.layer_plan import plan_layers
from dynq_basicsr.archs.padding import run_padded
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.base import AdaptiveBody
from dynq_basicsr.policies.registry import build_policy, needs_shallow, policy_options
from dynq_basicsr.quantization.context import BitContext, BitTrace
from dynq_basicsr.quantization.layers import (
    QUANTIZED_CLASSES,
    PreciseConv2d,
    QuantLayer,
    fold,
    make_precise,
    quantize_layer,
)
from dynq_basicsr.quantization.options import QuantizationOptions


class QuantizedSR(nn.Module):
    """A backbone whose chosen layers are fake-quantized, at bits that a policy decides for each image.

    The backbone's own class and code stay as they are: its layers are changed in place and ask a shared context for
    their bits. Samples are independent: a batch of N images equals N batches of one.

    Args:
        backbone: Options of a registered architecture, ``{type: EDSR, ...}``.
        quantization: See ``QuantizationOptions``; ``None`` or 32 bits leaves the network float.
        policy: ``{type: AdaBM | GranularDQ | Fixed, ...}``; ``None`` means ``Fixed``.

    Attributes:
        plan: Which layers are adaptive, static, ends.
        description: The three sections as they take effect, as plain values; checkpoints carry it.
        sizes: What image sizes the backbone takes; ``forward`` pads to them.

    Raises:
        DynqError: If the architecture is not registered, or an option or pattern is wrong.
    """

    def __init__(self, backbone: Mapping, quantization: Mapping | None = None, policy: Mapping | None = None) -> None:
        super().__init__()
        self.context = BitContext()
        self.backbone = build_backbone(backbone)
        self.quantization = QuantizationOptions.from_dict(quantization)
        self.sizes = size_requirement(self.backbone, backbone)
        self.plan = plan_layers(self.backbone, backbone, self.quantization, needs_shallow(policy))
        channels = self._watch_shallow_feature() if self.plan.head else 0
        body = AdaptiveBody(len(self.plan.adaptive), self.quantization.activation, channels)
        self.policy = build_policy(policy, body)
        if self.policy.needs_shallow and self.plan.head in self.plan.adaptive:
            raise DynqError(
                f'network_g.quantization: the policy decides by what {self.plan.head} makes of the image, so that '
                'layer cannot adapt itself; name it in exclude.'
            )
        self._quantize_layers()
        self.description = {
            'backbone': network_options(backbone),
            'quantization': asdict(self.quantization),
            'policy': policy_options(policy),
        }
        self.register_buffer('calibrated', torch.tensor(not self.plan.quantized))
        self._log_layers()

    def _watch_shallow_feature(self) -> int:
        """Let the context see what the head makes of the image; return its channels."""
        head = self.backbone.get_submodule(self.plan.head)
        head.register_forward_hook(self.context.look)
        return head.out_channels

    def _quantize_layers(self) -> None:
        modules, plan, options = dict(self.backbone.named_modules()), self.plan, self.quantization
        for index, name in enumerate(plan.adaptive):
            quantize_layer(modules[name], name, index, options, self.context, self.policy.candidates)
        for names, own in ((plan.static, options), (plan.ends, options.ends)):
            for name in names:
                quantize_layer(modules[name], name, None, own, self.context)
        for name in plan.precise:
            make_precise(modules[name], name, self.context)
        for name, norm in plan.norms.items():
            fold(modules[name], modules[norm])

    def _log_layers(self) -> None:
        plan, bits = self.plan, self.quantization
        floating = [
            name
            for name, module in self.backbone.named_modules()
            if isinstance(module, tuple(QUANTIZED_CLASSES)) and name not in plan.quantized
        ]
        message = (
            f'{type(self.backbone).__name__}: {len(plan.adaptive)} layers quantized ({plan.rule}) with '
            f'{bits.weight.bits}-bit weights ({bits.weight.granularity}), activations of {bits.activation.bits} bits, '
            f'{type(self.policy).__name__} within {list(bits.activation.bits_range)}: {", ".join(plan.adaptive)}.'
        )
        if plan.static:
            message += f' {len(plan.static)} layers keep these bits: {", ".join(plan.static)}.'
        if plan.ends:
            ends = bits.ends
            message += (
                f' {len(plan.ends)} ends with {ends.weight.bits}-bit weights and activations of '
                f'{ends.activation.bits} bits: {", ".join(plan.ends)}.'
            )
        get_root_logger().info(f'{message} {len(floating)} layers stay float: {", ".join(floating)}.')

    def quant_layers(self) -> list[QuantLayer]:
        """The quantized layers, adaptive and static, in module order."""
        return [module for module in self.backbone.modules() if isinstance(module, QuantLayer)]

    def precise_layers(self) -> list[PreciseConv2d]:
        """The float convolutions that compute in float64 while sums are to be exact, in module order."""
        return [module for module in self.backbone.modules() if isinstance(module, PreciseConv2d)]

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
            return run_padded(self.backbone, x, self.sizes)
        if not self.calibrated:
            raise DynqError(
                'The quantized network was never calibrated; train it with an option file of AdaBMModel or '
                'GranularDQModel, or load a calibrated checkpoint with path.pretrain_network_g.'
            )
        with self.context.deciding(self.policy.decide(x, lambda: self.context.shallow)):
            return run_padded(self.backbone, x, self.sizes)

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
