"""AdaBM's calibration: statistics of 100 images, then every range and map from them."""

from __future__ import annotations

import math

import torch
from basicsr.utils import get_root_logger
from torch import Tensor

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.complexity import gradient_density
from dynq_basicsr.policies.image_layer import ImageLayerPolicy
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.observers import InputObserver, observing
from dynq_basicsr.quantization.options import FLOAT_BITS
from dynq_basicsr.quantization.range_rules import RangeRules
from dynq_basicsr.quantization.ranges import RangeTable, StepTable
from dynq_basicsr.quantization.searches import search_clipping, search_step

# Inputs above it count as never negative, as in QuantSR's code.
NEGATIVE = -1e-5


class Calibration:
    """Watches the float network on calibration patches, and then sets ranges and maps.

    Args:
        net: The network to calibrate.
        bit_aware_clipping: Search each layer's clipping for its bits; otherwise ``rules`` set it.
        clipping_norm: See ``search_clipping``.
        rules: How weight ranges, and activation ranges without that search, are set; None: OMSE, and min-max.
    """

    def __init__(
        self,
        net: QuantizedSR,
        bit_aware_clipping: bool = True,
        clipping_norm: float = 2.0,
        rules: RangeRules | None = None,
    ) -> None:
        self.net, self.rules = net, rules or RangeRules()
        self.bit_aware_clipping, self.clipping_norm = bit_aware_clipping, clipping_norm
        self.layers = net.quant_layers()
        self.observers = [InputObserver() for _ in self.layers]
        self.complexities: list[Tensor] = []
        self._order: list[QuantLayer] = []

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Run the float network on a batch (N, C, H, W) in [0, 1] and remember what its layers saw."""
        self.complexities.append(gradient_density(images).cpu())
        with self.net.floating(), observing(self.layers, self.observers, self._order) as ran:
            self.net(images)
        # a network may skip a layer for some inputs: only an order that has all of them tells where to stop
        if len(set(ran)) == len(self.layers):
            self._order = ran

    @torch.no_grad()
    def finish(self) -> None:
        """Set weight ranges, both bit maps, and activation ranges (bit-aware clipping, or by rule).

        Raises:
            DynqError: If a layer saw NaN or infinity, or no batch was observed.
        """
        if not self.complexities:
            raise DynqError('calibration saw no image; give train.calibration_iter at least one iteration.')
        options, policy = self.net.quantization, self.net.policy
        for layer, observer in zip(self.layers, self.observers, strict=True):
            if observer.counts is None and not math.isnan(observer.lower):
                raise DynqError(
                    f'calibration: {layer.name} never ran as a module; put it into network_g.quantization.exclude.'
                )
            if not (torch.isfinite(torch.tensor([observer.lower, observer.upper, observer.deviation])).all()):
                raise DynqError(
                    f'calibration: the input of {layer.name} holds NaN or infinity; check the float weights.'
                )
        if isinstance(policy, ImageLayerPolicy):
            pairs = zip(self.layers, self.observers, strict=True)
            deviations = [observer.deviation for layer, observer in pairs if layer.index is not None]
            policy.calibrate(torch.cat(self.complexities), torch.tensor(deviations))
        layer_bits = self._layer_bits(policy)
        for layer, observer in zip(self.layers, self.observers, strict=True):
            if options.weight.bits != FLOAT_BITS:
                layer.weight_range.set(self.rules.weight_bound(layer.weight, layer.options.weight))
            if isinstance(layer.activation_range, StepTable):
                self._set_steps(layer.activation_range, observer)
            elif isinstance(layer.activation_range, RangeTable):
                self._set_ranges(layer.activation_range, observer)
            elif self.bit_aware_clipping and options.activation.bits != FLOAT_BITS:
                layer.activation_range.set(*self._clipping(layer, observer, layer_bits))
            else:
                layer.activation_range.set(*self.rules.activation_bounds(observer))
        self.net.calibrated.fill_(True)
        self._log(layer_bits)

    def _set_steps(self, table: StepTable, observer: InputObserver) -> None:
        """The best step at each candidate bit-width; levels below zero where the layer saw values below zero.

        LSQ and QuantSR start from 2 E|x| / sqrt(2^b - 1) of the first batch instead, and learn for longer.
        """
        signed = observer.lower < NEGATIVE
        limits = [[float(one) for one in table.limits(bits, signed)] for bits in table.candidates.tolist()]
        steps = [search_step(observer, low, high, self.clipping_norm) for low, high in limits]
        table.set(torch.tensor(steps), signed)

    def _set_ranges(self, table: RangeTable, observer: InputObserver) -> None:
        """Bit-aware clipping at each candidate bit-width."""
        bounds = [search_clipping(observer, bits, table.grid, self.clipping_norm) for bits in table.candidates.tolist()]
        table.set(*torch.tensor(bounds).T)

    def _clipping(self, layer: QuantLayer, observer: InputObserver, layer_bits: list[float]) -> tuple[float, float]:
        """Bit-aware clipping of one layer.

        The published code leaves the ends at minimum and maximum; at 8 bits, too, that costs SRResNet 3 dB before
        fine-tuning. No skip connection leads around an end, so the squared error is the measure there: outliers count.
        """
        if layer.name in self.net.plan.ends:
            return search_clipping(observer, layer.options.activation.bits, layer.options.activation.grid)
        bits = layer.options.activation.bits if layer.index is None else layer_bits[layer.index]
        return search_clipping(observer, bits, layer.options.activation.grid, self.clipping_norm)

    def _layer_bits(self, policy) -> list[float]:
        """Bits of each adaptive layer for an image of factor 0."""
        if isinstance(policy, ImageLayerPolicy):
            return policy.clamp(policy.base + policy.layer_bits()).tolist()
        return [float(self.net.quantization.activation.bits)] * len(self.net.plan.adaptive)

    def _log(self, layer_bits: list[float]) -> None:
        policy = self.net.policy
        message = f'Calibrated {len(self.layers)} layers on {sum(map(len, self.complexities))} patches.'
        if isinstance(policy, ImageLayerPolicy):
            thresholds = ', '.join(f'{value:.2f}' for value in policy.ordered_thresholds().tolist())
            message += (
                f' Complexity thresholds {thresholds}; layer bits {" ".join(f"{bits:.0f}" for bits in layer_bits)}.'
            )
        get_root_logger().info(message)
