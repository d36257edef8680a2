"""What calibration remembers of a layer's input: range, spread, histogram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.ranges import SMALLEST

BINS = 8192


class InputObserver:
    """Statistics of one layer's input over all calibration batches, in one pass.

    The histogram has fixed bins on [-limit, limit]. When a value falls outside, the limit doubles and neighbouring bins
    merge, so counts stay exact and no second pass is needed.

    Attributes:
        lower: Smallest value seen, at most 0; NaN once a value was not finite.
        upper: Largest value seen, at least 0; NaN likewise.
        deviation: Mean over samples of the unbiased standard deviation (AdaBM's layer sensitivity).
        counts: Histogram, (BINS,), float64.
    """

    def __init__(self) -> None:
        self.lower = self.upper = 0.0
        self.limit = 0.0
        self.counts: Tensor | None = None
        self._deviations = 0.0
        self._samples = 0

    @property
    def deviation(self) -> float:
        """Mean over samples of the standard deviation."""
        return self._deviations / max(self._samples, 1)

    @property
    def centers(self) -> Tensor:
        """Middle of each bin, (BINS,), float64."""
        edges = torch.linspace(-self.limit, self.limit, BINS + 1, dtype=torch.float64)
        return (edges[:-1] + edges[1:]) / 2

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Enter a batch (N, ...)."""
        low, high = (float(value) for value in torch.aminmax(x))
        if not math.isfinite(high - low):
            self.lower = self.upper = math.nan
            return
        self.lower, self.upper = min(self.lower, low), max(self.upper, high)
        # two passes over the mean; torch.std takes thirty times longer
        dims = tuple(range(1, x.dim()))
        centered = x - x.mean(dim=dims, keepdim=True)
        self._deviations += float((centered.square().sum(dim=dims) / (x[0].numel() - 1)).sqrt().sum())
        self._samples += len(x)
        self._make_room(max(-low, high))
        bins = x.mul(BINS / (2 * self.limit)).add_(BINS / 2).to(torch.int32).clamp_(max=BINS - 1)
        # memory order, not index order: flattening a channels-last tensor would copy it
        flat = bins.permute(0, 2, 3, 1).flatten() if bins.dim() == 4 else bins.flatten()
        # NumPy's bincount is three times faster than torch.histc and six times faster than torch.bincount
        self.counts += torch.from_numpy(np.bincount(flat.cpu().numpy(), minlength=BINS))

    def _make_room(self, largest: float) -> None:
        if self.counts is None:
            self.limit = max(largest, SMALLEST)
            self.counts = torch.zeros(BINS, dtype=torch.float64)
        while largest > self.limit:
            merged = self.counts.view(-1, 2).sum(dim=1)
            self.counts = torch.zeros(BINS, dtype=torch.float64)
            self.counts[BINS // 4 : -BINS // 4] = merged
            self.limit *= 2


class _EnoughSeen(BaseException):
    """Ends a forward whose remaining layers nobody observes; no network's ``except Exception`` may stop it."""


@contextmanager
def observing(
    layers: Sequence[QuantLayer], observers: Sequence[InputObserver], stop_after: Sequence[QuantLayer] = ()
) -> Iterator[list[QuantLayer]]:
    """Let each observer see its layer's input within this block; no hook stays behind.

    Args:
        layers: The layers.
        observers: One each.
        stop_after: End the block's forward once exactly these layers ran, in this order; empty: never. Where only the
            body is quantized, upsampler and tail are half of a network's work.

    Yields:
        The layers observed so far, in the order in which they ran.
    """
    ran: list[QuantLayer] = []

    def watch(observer: InputObserver):
        def look(layer: QuantLayer, inputs: tuple) -> None:
            observer.observe(inputs[0])
            ran.append(layer)
            if stop_after and ran == stop_after:
                raise _EnoughSeen

        return look

    hooks = [
        layer.register_forward_pre_hook(watch(observer)) for layer, observer in zip(layers, observers, strict=True)
    ]
    try:
        yield ran
    except _EnoughSeen:
        pass
    finally:
        for hook in hooks:
            hook.remove()
