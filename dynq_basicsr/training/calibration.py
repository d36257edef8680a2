"""Calibration: statistics of some images, then every range and map from them."""

from __future__ import annotations

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.config.quantization import FLOAT_BITS
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.base import CalibrationStatistics
from dynq_basicsr.quantization.clipping import Clipping
from dynq_basicsr.quantization.observers import InputObserver, Observed, observing
from dynq_basicsr.quantization.run import Mode

# Of images that a forward takes on a GPU: enough to keep it busy, and few enough for the tail of a network of scale 4,
# whose inputs have 16 times as many, to be counted within 3 GB.
GPU_PIXELS = 16 * 96 * 96


def batch_of(images: Tensor) -> int:
    """How many images of this size (N, C, H, W) a forward takes: one on CPUs, for the sake of their caches."""
    return 1 if images.device.type == 'cpu' else max(1, GPU_PIXELS // (images.shape[-2] * images.shape[-1]))


class Calibration:
    """Watches the float network on calibration patches, and then sets ranges and maps.

    Args:
        net: The network to calibrate.
        clipping: How ranges are found; None: bit-aware clipping.
        measures: ``BitPolicy.measure`` of images that represent the data better than those that are observed; None: of
            those.
    """

    def __init__(self, net: QuantizedSR, clipping: Clipping | None = None, measures: Tensor | None = None) -> None:
        self.net, self.clipping = net, clipping or Clipping()
        self.layers = net.quant_layers()
        self.observers = [InputObserver() for _ in self.layers]
        self.patches = 0
        self._given, self._measures = measures, []
        self._waiting: list[Tensor] = []
        self._order: list[nn.Module] = []

    @torch.no_grad()
    def observe(self, images: Tensor) -> None:
        """Take a batch (N, C, H, W) in [0, 1]; on a GPU, it waits until there are enough for a large one."""
        if self._waiting and self._waiting[0].shape[1:] != images.shape[1:]:
            self._flush()
        self._waiting.append(images)
        if sum(map(len, self._waiting)) >= batch_of(images):
            self._flush()

    def _flush(self) -> None:
        """Run the float network on what waits, and remember what its layers saw."""
        if not self._waiting:
            return
        images = torch.cat(self._waiting)
        self._waiting = []
        self.patches += len(images)
        if self._given is None and (measured := self.net.policy.measure(images)) is not None:
            self._measures.append(measured)
        with observing(self.layers, self.observers, self._order) as ran:
            self.net(images, mode=Mode.FLOAT)
        # a network may skip a layer for some inputs: only an order that has all of them tells where to stop
        if len(set(ran)) == len(self.layers):
            self._order = ran

    @torch.no_grad()
    def finish(self) -> None:
        """Set weight ranges, the policy's first values, and activation ranges.

        Raises:
            DynqError: If a layer saw NaN or infinity, or no batch was observed.
        """
        self._flush()
        if not self.patches:
            raise DynqError('calibration saw no image; give train.calibration_iter at least one iteration.')
        observed, policy = self._observed(), self.net.policy
        adaptive = [place for place, layer in enumerate(self.layers) if layer.index is not None]
        policy.calibrate(CalibrationStatistics(self._all_measures(), observed.deviation[adaptive]))
        bits = policy.typical_bits().cpu()
        for layer in self.layers:
            if layer.options.weight.bits != FLOAT_BITS:
                layer.weight_range.set(self.clipping.rules.weight_bound(layer.weight, layer.options.weight))
        for group, clipping in self._groups():
            layers = [self.layers[place] for place in group]
            typical = [layer.options.activation.bits if layer.index is None else bits[layer.index] for layer in layers]
            typical = torch.tensor(typical, dtype=torch.float32, device=observed.lower.device)
            quantizers = [layer.activation_range for layer in layers]
            type(quantizers[0]).calibrate_all(quantizers, observed[group], typical, clipping)
        self.net.calibrated = True
        get_root_logger().info(f'Calibrated {len(self.layers)} layers on {self.patches} patches. {policy.summary()}')

    def _all_measures(self) -> Tensor:
        if self._given is not None:
            return self._given
        return torch.cat(self._measures) if self._measures else torch.empty(0)

    def _groups(self) -> list[tuple[list[int], Clipping]]:
        """Places of layers that are calibrated together, and how.

        The published code leaves the ends at minimum and maximum; at 8 bits, too, that costs SRResNet 3 dB before
        fine-tuning. No skip connection leads around an end, so the squared error is the measure there: outliers count.
        """
        ends = Clipping(self.clipping.bit_aware, rules=self.clipping.rules)
        groups: dict[tuple[bool, bool], list[int]] = {}
        for place, layer in enumerate(self.layers):
            if layer.options.activation.bits != FLOAT_BITS:
                # those that the policy decides for have its candidates, the others their own bits alone
                groups.setdefault((layer.name in self.net.plan.ends, layer.index is None), []).append(place)
        return [(group, ends if end else self.clipping) for (end, _), group in groups.items()]

    def _observed(self) -> Observed:
        """What all layers saw, if that is sound."""
        names = [layer.name for layer in self.layers]
        for name, observer in zip(names, self.observers, strict=True):
            if observer.counts is None:
                raise DynqError(
                    f'calibration: {name} never ran as a module; put it into network_g.quantization.exclude.'
                )
        observed = Observed.stack(self.observers, names)
        finite = observed.lower.isfinite() & observed.upper.isfinite() & observed.deviation.isfinite()
        for name, sound in zip(names, finite.tolist(), strict=True):
            if not sound:
                raise DynqError(f'calibration: the input of {name} holds NaN or infinity; check the float weights.')
        return observed
