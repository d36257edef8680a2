"""Searches for clipping ranges; every candidate is evaluated in the same call, for all layers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dynq_basicsr.quantization.grids import integer_grid, literal_grid, snap, weight_grid
from dynq_basicsr.quantization.observers import BINS, Observed

WEIGHT_RATIOS = torch.arange(100, 20, -1) / 100
# Geometric, since outliers can stretch a range to a hundred times what the values need: 1 down to 0.01.
CLIP_RATIOS = torch.logspace(0, -2, 200, dtype=torch.float64)

# Bytes that the buffers of one call may take beside the CPU, where large ones cost no more than small ones.
_BUFFERS = 2**28
# How many buffers of every candidate's values a search has at once.
_COPIES = 3


@torch.no_grad()
def search_weight_range(weight: Tensor, bits: int, per_channel: bool = False, grid: str = 'integer') -> Tensor:
    """OMSE: the clipping bound with the least mean squared error, among ratios of max |w|.

    Args:
        weight: (C_out, ...).
        bits: Bit-width.
        per_channel: One bound an output channel.
        grid: ``integer`` or ``literal``, see ``weight_grid`` and ``literal_grid``.

    Returns:
        Scalar, or (C_out, 1, ...).
    """
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    largest = rows.abs().amax(dim=1)
    bounds = _to(WEIGHT_RATIOS, weight).unsqueeze(1) * largest  # (candidates, rows)
    errors = [
        _weight_errors(rows, part.unsqueeze(2), bits, grid) for part in bounds.split(_weight_candidates_at_once(rows))
    ]
    best = bounds.gather(0, torch.cat(errors).argmin(dim=0, keepdim=True)).squeeze(0)
    return best.view(-1, *[1] * (weight.dim() - 1)) if per_channel else best.squeeze(0)


@torch.no_grad()
def search_clipping(
    observed: Observed, bits: Tensor, grid: str = 'integer', norm: float = 2.0
) -> tuple[Tensor, Tensor]:
    """Bit-aware clipping: shrink both bounds by the ratio with the least error at each layer's own bits.

    AdaBM (section 3.5) minimises the squared error. Rare outliers can rule that measure: in SRResNet's last blocks it
    keeps a range of 24 for inputs of deviation 0.3, where the absolute error (``norm=1``) lands near the least error of
    the network's output at 6 bits. The error is taken over the histogram of all calibration data.

    Args:
        observed: What calibration saw of the inputs of L layers.
        bits: The layers' bit-widths, (L,).
        grid: ``integer`` or ``literal``, see ``integer_grid`` and ``literal_grid``.
        norm: Exponent of the error: 2 as in the paper, 1 for the absolute error.

    Returns:
        (lower, upper), each (L,), float64; zeros for a layer that saw zeros only.
    """
    ratios = _to(CLIP_RATIOS, observed.counts)
    bits = _to(bits, observed.counts)
    errors = observed.counts.new_empty(len(observed), len(CLIP_RATIOS))
    for part, values, counts in _portions(observed):
        lower, upper, own_bits = (one[part].view(-1, 1, 1) for one in (observed.lower, observed.upper, bits))
        # one row a candidate: its ratio scales the values instead of the bounds, so that one grid a layer serves all
        scaled = values.unsqueeze(1) / ratios.unsqueeze(1)
        if grid == 'literal':
            snapped = snap(scaled - lower, literal_grid(lower, upper, own_bits)).add_(lower)
        else:
            snapped = snap(scaled, integer_grid(lower, upper, own_bits))
        errors[part] = _total(snapped.sub_(scaled).abs_().mul_(ratios.unsqueeze(1)).pow_(norm), counts)
    # where all values are zero, errors are NaN and any ratio will do
    best = ratios[errors.argmin(dim=1)]
    return best * observed.lower, best * observed.upper


@torch.no_grad()
def search_step(observed: Observed, low: Tensor, high: Tensor, norm: float = 2.0) -> Tensor:
    """The step with the least error on each layer's grid ``step * {low, ..., high}``, over all calibration data.

    Candidates are ratios of the smallest step that clips nothing, as in ``search_clipping``. The quantizer is that of
    LSQ (Esser et al., ICLR 2020) and PAMS (Li et al., ECCV 2020), which begin with other steps and learn them longer.

    Args:
        observed: What calibration saw of the inputs of L layers.
        low: Smallest integers, <= 0, (L,).
        high: Largest integers, > 0, (L,).
        norm: Exponent of the error.

    Returns:
        Steps, (L,), float64; 0 for a layer that saw zeros only, or only values that its grid has no level for.
    """
    low, high = _to(low, observed.counts), _to(high, observed.counts)
    below = torch.where(low < 0, observed.lower / low, 0)
    largest = torch.maximum(observed.upper / high, below)
    steps = largest.unsqueeze(1) * _to(CLIP_RATIOS, observed.counts)  # (L, candidates)
    grids = torch.stack([steps, *(end.unsqueeze(1).expand_as(steps) for end in (low, high))]).unsqueeze(3)
    errors = observed.counts.new_empty(len(observed), len(CLIP_RATIOS))
    for part, values, counts in _portions(observed):
        values = values.unsqueeze(1)
        errors[part] = _total(snap(values, grids[:, part]).sub_(values).abs_().pow_(norm), counts)
    # where all candidates are zero, errors are NaN and any of them will do
    return steps.gather(1, errors.argmin(dim=1, keepdim=True)).squeeze(1)


def _to(values: Tensor, like: Tensor) -> Tensor:
    """Values in the dtype and on the device of another tensor; a copy to a GPU is not waited for."""
    return values.to(like, non_blocking=True)


def _portions(observed: Observed) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The layers in portions that fit the buffers.

    Yields:
        Which layers, the l of this portion; values of their inputs, (l, V); how often each occurs, (l, V).
    """
    if observed.counts.device.type == 'cpu':
        return _occupied(observed)
    return _whole(observed, max(1, _BUFFERS // (_COPIES * len(CLIP_RATIOS) * BINS * observed.counts.element_size())))


def _occupied(observed: Observed) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The layers one by one, bins without counts left out: less work, but the host must know how many they are."""
    for layer, (centers, counts) in enumerate(zip(observed.centers, observed.counts, strict=True)):
        used = counts > 0
        yield slice(layer, layer + 1), centers[used].unsqueeze(0), counts[used].unsqueeze(0)


def _whole(observed: Observed, size: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The layers, so many at a time, with all of their bins."""
    centers = observed.centers
    for start in range(0, len(observed), size):
        part = slice(start, start + size)
        yield part, centers[part], observed.counts[part]


def _total(errors: Tensor, counts: Tensor) -> Tensor:
    """Errors (l, candidates, V) of values that occur so often, (l, V), summed over the values: (l, candidates)."""
    return torch.stack([own @ weights for own, weights in zip(errors, counts, strict=True)])


def _weight_candidates_at_once(rows: Tensor) -> int:
    """How many candidates fit the buffers; one on the CPU, where a weight stays in the cache but eighty do not."""
    if rows.device.type == 'cpu':
        return 1
    return max(1, min(len(WEIGHT_RATIOS), _BUFFERS // (_COPIES * rows.numel() * rows.element_size())))


def _weight_errors(rows: Tensor, bounds: Tensor, bits: int, grid: str) -> Tensor:
    """Squared errors (c, rows) of rows (rows, n) at candidate bounds (c, rows, 1)."""
    if grid == 'literal':
        snapped = snap(rows + bounds, literal_grid(-bounds, bounds, bits)).sub_(bounds)
    else:
        snapped = snap(rows, weight_grid(bounds, bits))
    return snapped.sub_(rows).square_().sum(dim=2)
