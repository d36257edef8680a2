"""The one wrapper: any super-resolution network, quantized with content-adaptive bit-widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from dynq_basicsr.archs.arch_options import image_format
from dynq_basicsr.archs.backbone import Backbone
from dynq_basicsr.archs.checkpointing import keep_activation_checkpoints
from dynq_basicsr.archs.layer_plan import plan_layers
from dynq_basicsr.archs.layer_table import layer_table
from dynq_basicsr.archs.merging import merge_modules
from dynq_basicsr.archs.padding import SizeRequirement, run_padded
from dynq_basicsr.archs.run_setup import set_up
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.numerics.attention import attention_in_parts, has_fused_attention
from dynq_basicsr.policies.base import AdaptiveBody
from dynq_basicsr.policies.build import build_policy, needs_shallow, policy_options
from dynq_basicsr.quantization.float_layers import FLOAT_CLASSES, FloatConv2d, adapt_float_module
from dynq_basicsr.quantization.layers import QuantLayer, fold, quantize_layer
from dynq_basicsr.quantization.run import Details, Mode, Run, RunHolder


class QuantizedSR(nn.Module):
    """A backbone whose chosen layers are quantized, at bits that a policy decides for each image.

    The backbone's own class and code stay as they are: its layers are changed in place and find the run that they are
    part of in a holder that they share. Samples are independent: a batch of N images equals N batches of one. Called by
    itself, outside of this wrapper, the backbone is the float network.

    Args:
        backbone: Options of a registered architecture, ``{type: EDSR, ...}``, or a network, with what it was built from
            or without, which is taken over: its layers are changed in place.
        quantization: See ``QuantizationOptions``; ``None`` or 32 bits leaves the network float.
        policy: ``{type: AdaBM | GranularDQ | Fixed, ...}``, or what is registered besides; ``None`` means ``Fixed``.
        value_range: The backbone works on images in 0 .. this, as 1 or 255; None: as its profile says, or found by
            running it, which an untrained network does not show (1 then).
        output: Index or key of the image in what the backbone returns; None: likewise.

    Attributes:
        plan: Which layers are adaptive, static, ends.
        image_format: What the backbone takes and gives.
        description: Backbone, quantization and policy as they take effect, value range and output, as plain values;
            checkpoints carry it.
        calibrated: Whether ranges and maps have values that mean something; part of the state dict.

    Raises:
        DynqError: If the architecture is not registered, maps no images to images, or an option or pattern is wrong.
    """

    def __init__(
        self,
        backbone: Mapping | nn.Module | Backbone,
        quantization: Mapping | None = None,
        policy: Mapping | None = None,
        value_range: float | None = None,
        output: int | str | None = None,
    ) -> None:
        super().__init__()
        self.holder = RunHolder()
        built = Backbone.of(backbone)
        self.backbone = merge_modules(built.network)
        self.quantization = QuantizationOptions.from_dict(quantization)
        self.image_format = image_format(built.network, built.options, value_range, output)
        self.plan = plan_layers(self.backbone, self.image_format, self.quantization, needs_shallow(policy))
        channels = self._watch_shallow_feature() if self.plan.head else 0
        body = AdaptiveBody(len(self.plan.adaptive), self.quantization.activation, channels)
        self.policy = build_policy(policy, body)
        if self.policy.needs_shallow and self.plan.head in self.plan.adaptive:
            raise DynqError(
                f'network_g.quantization: the policy decides by what {self.plan.head} makes of the image, so that '
                'layer cannot adapt itself; name it in exclude.'
            )
        self._adapt_layers()
        self._layers = [one for one in self.backbone.modules() if isinstance(one, QuantLayer)]
        self._fuses_attention = has_fused_attention(self.backbone)
        keep_activation_checkpoints(self.backbone)
        self.description = {
            'backbone': built.description,
            'quantization': self.quantization.model_dump(),
            'policy': policy_options(policy),
            'value_range': self.image_format.value_range,
            'output': self.image_format.output,
        }
        self.calibrated = not self.plan.quantized
        self._log()

    @property
    def input_channels(self) -> int:
        """Channels of the image that it takes."""
        return self.image_format.in_channels

    @property
    def scale(self) -> int:
        """How many times as large the image is that it gives, on each side."""
        return self.image_format.scale

    @property
    def sizes(self) -> SizeRequirement:
        """What image sizes the backbone takes; ``forward`` pads to them."""
        return self.image_format.sizes

    def _watch_shallow_feature(self) -> int:
        """Let the holder see what the head makes of the image; return its channels."""
        head = self.backbone.get_submodule(self.plan.head)
        head.register_forward_hook(self.holder.see_shallow)
        return head.out_channels

    def _adapt_layers(self) -> None:
        plan, options, holder = self.plan, self.quantization, self.holder
        modules = dict(self.backbone.named_modules())
        positions = {name: position for position, name in enumerate(one for one in modules if one in plan.quantized)}
        for index, name in enumerate(plan.adaptive):
            quantize_layer(modules[name], name, index, options, holder, self.policy.candidates, positions[name])
        for names, own in ((plan.static, options), (plan.ends, options.ends)):
            for name in names:
                quantize_layer(modules[name], name, None, own, holder, position=positions[name])
        for name, module in modules.items():
            if name in plan.precise or type(module) in FLOAT_CLASSES:
                adapt_float_module(module, name, holder, float64=name in plan.precise)
        for name, norm in plan.norms.items():
            fold(modules[name], modules[norm])

    def _log(self) -> None:
        plan, bits = self.plan, self.quantization
        logger, name = get_root_logger(), type(self.backbone).__name__
        counts = f'{len(plan.adaptive)} layers adapt'
        counts += f', {len(plan.static)} keep the base bits' if plan.static else ''
        counts += f', {len(plan.ends)} ends' if plan.ends else ''
        logger.info(
            f'{name}: {counts} ({plan.rule}), weights of {bits.weight.bits} bits, activations of '
            f'{bits.activation.bits}, {type(self.policy).__name__}.'
        )
        if plan.runs or not self.image_format.certain:
            logger.info(f'{name}: {self.image_format.summary()}.')

    def layer_table(self) -> str:
        """What becomes of every convolution and linear layer, and why: one line each, below a line of headings."""
        return layer_table(self.backbone, self.plan, self.quantization)

    def get_extra_state(self) -> Tensor:
        """``calibrated``, for the state dict."""
        return torch.tensor(self.calibrated)

    def set_extra_state(self, state: Tensor) -> None:
        """Take ``calibrated`` from a state dict."""
        self.calibrated = bool(state)

    def quant_layers(self) -> list[QuantLayer]:
        """The quantized layers, adaptive and static, in module order."""
        return list(self._layers)

    def precise_layers(self) -> list[FloatConv2d]:
        """The float convolutions that sum in float64 where the mode is exact, in module order."""
        return [module for module in self.backbone.modules() if isinstance(module, FloatConv2d) and module.float64]

    def static_bits(self) -> dict[str, float]:
        """Activation bits of the static layers, by name."""
        return {one.name: float(one.options.activation.bits) for one in self._layers if one.index is None}

    def tap(self, modules: Sequence[nn.Module]) -> None:
        """Let ``Details.features`` hold the outputs of these modules of the backbone, from now on."""
        for module in modules:
            module.register_forward_hook(self.holder.see_feature)

    def forward(
        self,
        x: Tensor,
        mode: Mode | str | None = None,
        matmul_dtype: torch.dtype | None = None,
        bits: Tensor | None = None,
        details: bool = False,
    ) -> Tensor | Details:
        """Super-resolve images.

        Args:
            x: (N, C, H, W) in [0, 1].
            mode: How to compute, see ``Mode``; None: ``training`` in training mode, ``exact`` in evaluation mode. What
                it gives does not depend on whether gradients are recorded.
            matmul_dtype: What operands of convolutions and linear layers are cast to, ``torch.bfloat16``; None: float32
                as it is. Not for ``exact``.
            bits: Of the adaptive layers, (K,) or (K, N), instead of the policy's.
            details: Return the bits and the features, too.

        Returns:
            (N, C, scale * H, scale * W), or ``Details``.

        Raises:
            DynqError: If the network was never calibrated, or is to run exactly in training mode.
        """
        mode = Mode(mode) if mode is not None else Mode.TRAINING if self.training else Mode.EXACT
        if mode is not Mode.FLOAT and not self.calibrated:
            raise DynqError(
                'The quantized network was never calibrated; train it with an option file of AdaBMModel or '
                'GranularDQModel, or load a calibrated checkpoint with path.pretrain_network_g.'
            )
        if mode is Mode.EXACT and self.training:
            raise DynqError('The network is in training mode, where policies draw at random; call eval().')
        if mode is not Mode.EXACT:
            return self._run(x, mode, matmul_dtype, bits, details)
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            if not self._fuses_attention:
                return self._run(x, mode, None, bits, details)
            with attention_in_parts():
                return self._run(x, mode, None, bits, details)

    def run_backbone(self, x: Tensor) -> Tensor:
        """The backbone by itself, the float network outside of a run: images in [0, 1] of sides that it takes.

        Args:
            x: (N, C, H, W) in [0, 1].

        Returns:
            (N, C', scale * H, scale * W).
        """
        span = self.image_format.value_range
        if span == 1:
            return self.image_format.pick(self.backbone(x))
        return self.image_format.pick(self.backbone(x * span)) / span

    def _run(
        self, x: Tensor, mode: Mode, matmul_dtype: torch.dtype | None, bits: Tensor | None, details: bool
    ) -> Tensor | Details:
        layers = self._layers
        run = self.holder.run = Run(mode, matmul_dtype, len(layers))
        try:
            if details:
                run.features = []
            if mode is not Mode.FLOAT:
                set_up(run, x, layers, self.policy, self.quantization, bits)
            output = run_padded(self.run_backbone, x, self.sizes)
            if not torch.compiler.is_compiling():
                self.holder.stay_for_backward(output, *(run.features or ()))
        finally:
            self.holder.run = None
        if not details:
            return output
        features, run.features = tuple(run.features), None
        rows = [run.bits[index] for index in range(len(run.bits))]
        return Details(output, torch.stack(rows) if rows else x.new_zeros(0, 1), features)
