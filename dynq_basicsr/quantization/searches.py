"""Searches for clipping ranges; every candidate is evaluated in the same call."""

from __future__ import annotations

import torch
from torch import Tensor

from dynq_basicsr.quantization.fake_quantize import fake_quantize_activation, fake_quantize_step, fake_quantize_weight
from dynq_basicsr.quantization.observers import InputObserver

WEIGHT_RATIOS = torch.arange(100, 20, -1) / 100
# Geometric, since outliers can stretch a range to a hundred times what the values need: 1 down to 0.01.
CLIP_RATIOS = torch.logspace(0, -2, 200, dtype=torch.float64)


@torch.no_grad()
def search_weight_range(weight: Tensor, bits: int, per_channel: bool = False, grid: str = 'integer') -> Tensor:
    """OMSE: the clipping bound with the least mean squared error, among ratios of max |w|.

    Args:
        weight: (C_out, ...).
        bits: Bit-width.
        per_channel: One bound an output channel.
        grid: See ``fake_quantize_weight``.

    Returns:
        Scalar, or (C_out, 1, ...).
    """
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    largest = rows.abs().amax(dim=1, keepdim=True)
    bounds = WEIGHT_RATIOS.to(weight).view(-1, 1) * largest.view(1, -1)  # (candidates, rows)
    errors = torch.stack(
        [(fake_quantize_weight(rows, bound.view(-1, 1), bits, grid) - rows).square().sum(dim=1) for bound in bounds]
    )
    best = bounds.gather(0, errors.argmin(dim=0, keepdim=True)).squeeze(0)
    return best.view(-1, *[1] * (weight.dim() - 1)) if per_channel else best.squeeze(0)


@torch.no_grad()
def search_clipping(
    observer: InputObserver, bits: float, grid: str = 'integer', norm: float = 2.0
) -> tuple[float, float]:
    """Bit-aware clipping: shrink both bounds by the ratio with the least error at the layer's own bits.

    AdaBM (section 3.3) minimises the squared error. Rare outliers can rule that measure: in SRResNet's last blocks it
    keeps a range of 24 for inputs of deviation 0.3, where the absolute error (``norm=1``) lands near the least error of
    the network's output at 6 bits. The error is taken over the histogram of all calibration data.

    Args:
        observer: What calibration saw of the layer's input.
        bits: The layer's bit-width.
        grid: See ``fake_quantize_activation``.
        norm: Exponent of the error: 2 as in the paper, 1 for the absolute error.

    Returns:
        (lower, upper).
    """
    if observer.upper == observer.lower:
        return observer.lower, observer.upper
    values, counts = _occupied(observer)
    # one row a candidate: its ratio scales the values instead of the bounds, so that one call serves all
    ratios = CLIP_RATIOS.view(-1, 1)
    scaled = values / ratios
    lower, upper = values.new_tensor(observer.lower), values.new_tensor(observer.upper)
    errors = (fake_quantize_activation(scaled, lower, upper, bits, grid) - scaled).abs_().mul_(ratios).pow_(
        norm
    ) @ counts
    ratio = float(CLIP_RATIOS[errors.argmin()])
    return ratio * observer.lower, ratio * observer.upper


@torch.no_grad()
def search_step(observer: InputObserver, low: float, high: float, norm: float = 2.0) -> float:
    """The step with the least error on the grid ``step * {low, ..., high}``, over all calibration data.

    Candidates are ratios of the smallest step that clips nothing, as in ``search_clipping``.

    Args:
        observer: What calibration saw of the layer's input.
        low: Smallest integer, <= 0.
        high: Largest integer, > 0.
        norm: Exponent of the error.

    Returns:
        A step; 0 where the layer saw zeros only.
    """
    largest = max(observer.upper / high, observer.lower / low if low else 0.0)
    if not largest:
        return 0.0
    values, counts = _occupied(observer)
    steps = largest * CLIP_RATIOS
    errors = (fake_quantize_step(values.expand(len(steps), -1), steps, low, high) - values).abs_().pow_(norm) @ counts
    return float(steps[errors.argmin()])


def _occupied(observer: InputObserver) -> tuple[Tensor, Tensor]:
    """Centers and counts of the bins that hold something."""
    occupied = observer.counts > 0
    return observer.centers[occupied], observer.counts[occupied]
