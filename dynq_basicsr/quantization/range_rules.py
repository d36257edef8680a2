"""Clipping ranges read off the data's distribution: minimum and maximum, percentiles, density."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dynq_basicsr.config.quantization import WeightOptions
from dynq_basicsr.config.ranges import RangeOptions
from dynq_basicsr.quantization.observers import Observed
from dynq_basicsr.quantization.searches import search_weight_range

DENSITY_BINS = 2048  # PTQ4SR's


class RangeRules(RangeOptions):
    """The options that say which rule sets the ranges, applied to what calibration saw."""

    @classmethod
    def of(cls, options: RangeOptions) -> RangeRules:
        """The rules among the options of a recipe."""
        return cls(**{key: getattr(options, key) for key in RangeOptions.model_fields})

    def weight_bound(self, weight: Tensor, options: WeightOptions) -> Tensor:
        """Clipping bound of a weight (C_out, ...): scalar, or (C_out, 1, ...) per channel."""
        if self.weight_range == 'omse':
            return search_weight_range(weight, options.bits, options.per_channel, options.grid)
        percent = self.percentile if self.weight_range == 'percentile' else 0
        return weight_percentile(weight, percent, options.per_channel)

    def activation_bounds(self, observed: Observed) -> tuple[Tensor, Tensor]:
        """(lower, upper) of the inputs of L layers, each (L,), float64."""
        if self.activation_range == 'percentile':
            return percentile_range(observed, self.percentile)
        if self.activation_range == 'density':
            return density_range(observed, self.density_mass)
        return observed.lower, observed.upper


@torch.no_grad()
def weight_percentile(weight: Tensor, percent: float, per_channel: bool = False) -> Tensor:
    """The bound that leaves out ``2 * percent`` percent of the magnitudes: ``percent`` at each end if ends are alike.

    AdaBM's published code takes the signed quantile of the weights instead: the same for symmetric weights, but far too
    small, even negative, for weights that are mostly negative.

    Args:
        weight: (C_out, ...).
        percent: In [0, 50); 0 gives max |w|.
        per_channel: One bound an output channel.

    Returns:
        Scalar, or (C_out, 1, ...).
    """
    rows = weight.abs().flatten(1) if per_channel else weight.abs().reshape(1, -1)
    bounds = torch.quantile(rows, 1 - percent / 50, dim=1)
    return bounds.view(-1, *[1] * (weight.dim() - 1)) if per_channel else bounds.squeeze(0)


def percentile_range(observed: Observed, percent: float) -> tuple[Tensor, Tensor]:
    """The percentiles ``percent`` and ``100 - percent`` of all calibration data, read off the histograms.

    Args:
        observed: What calibration saw of the inputs of L layers.
        percent: In [0, 50); 0 gives minimum and maximum.

    Returns:
        (lower, upper), each (L,), float64.
    """
    shares = np.array([percent, 100 - percent]) / 100

    def bounds(one: _Distribution) -> np.ndarray:
        return np.interp(shares * one.below[-1], one.below, one.edges).clip(one.lower, one.upper)

    return _for_each_layer(bounds, observed)


def density_range(observed: Observed, mass: float = 1e-4) -> tuple[Tensor, Tensor]:
    """PTQ4SR's density-based dual clipping: cut where the data is thinnest.

    Of a histogram of 2048 bins, the emptier one of the two end bins is dropped, again and again, until the next one
    would bring the dropped values to more than ``mass``. PTQ4SR averages the bounds of batches; this takes the whole
    calibration set at once.

    Args:
        observed: What calibration saw of the inputs of L layers.
        mass: Fraction of the values that may be cut off, in [0, 0.5].

    Returns:
        (lower, upper), each (L,), float64: edges of the bins that remain. Neither need be on its own side of zero.
    """

    def bounds(one: _Distribution) -> np.ndarray:
        places = np.linspace(one.lower, one.upper, DENSITY_BINS + 1)
        # the observer's bins do not align with these: a bin that straddles an edge is shared out
        inner = np.interp(places[1:-1], one.edges, one.below)
        counts = np.diff(inner, prepend=0, append=one.below[-1]).tolist()
        left, right, budget = 0, DENSITY_BINS - 1, mass * one.below[-1]
        while left < right and min(counts[left], counts[right]) <= budget:
            if counts[left] <= counts[right]:
                budget -= counts[left]
                left += 1
            else:
                budget -= counts[right]
                right -= 1
        return places[[left, right + 1]]

    return _for_each_layer(bounds, observed)


@dataclass(frozen=True)
class _Distribution:
    """One layer's smallest and largest value, edges of the observer's bins, and how many values lie below each."""

    lower: float
    upper: float
    edges: np.ndarray
    below: np.ndarray


def _for_each_layer(bounds: Callable[[_Distribution], np.ndarray], observed: Observed) -> tuple[Tensor, Tensor]:
    """A rule that gives both bounds of one layer, applied to all of them, on the host: it runs but once."""
    host = observed.to('cpu')
    results = []
    for lower, upper, limit, counts in zip(
        host.lower.tolist(), host.upper.tolist(), host.limit.tolist(), host.counts.numpy(), strict=True
    ):
        edges = np.linspace(-limit, limit, len(counts) + 1)
        below = np.concatenate([[0], counts.cumsum()])
        results.append(bounds(_Distribution(lower, upper, edges, below)))
    lower, upper = torch.from_numpy(np.array(results).reshape(-1, 2).T.copy()).to(observed.lower)
    return lower, upper
