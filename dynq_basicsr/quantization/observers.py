"""What calibration remembers of a layer's input: range, spread, histogram.

Nothing here waits for the device that it runs on: statistics stay tensors beside the inputs, and what depends on their
values is computed instead of decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn

from dynq_basicsr.numerics.float64 import has_float64
from dynq_basicsr.quantization.grids import SMALLEST

BINS = 8192
HISTOGRAMS = 64  # that a device other than the CPU counts into


class InputObserver:
    """Statistics of one layer's input over all calibration batches, in one pass.

    The histogram has fixed bins on [-limit, limit]. When a value falls outside, the limit doubles and neighbouring bins
    merge, so counts stay exact and no second pass is needed.

    All attributes are ``None`` before the first batch, and then tensors on its device. Of numbers with a fraction the
    dtype is float64, or float32 where the device has no other.

    Attributes:
        lower: Smallest value seen, at most 0, a scalar; NaN once a value was not finite.
        upper: Largest value seen, at least 0; NaN likewise.
        limit: Where the histogram ends, on both sides; > 0.
        counts: Histogram, (BINS,), int64; batches with a value that is not finite are left out.
    """

    def __init__(self) -> None:
        self.lower: Tensor | None = None
        self.upper: Tensor | None = None
        self.limit: Tensor | None = None
        self.counts: Tensor | None = None
        self._deviations: Tensor | None = None
        self._samples = 0

    @property
    def deviation(self) -> Tensor | None:
        """Mean over samples of the unbiased standard deviation (AdaBM's layer sensitivity); NaN as the range."""
        return None if self._deviations is None else self._deviations / self._samples

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Enter a batch (N, ...)."""
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()  # 11 bits and fewer cannot tell 8192 bins apart
        if self.counts is None:
            dtype = torch.float64 if has_float64(x.device) else torch.float32
            self.counts = torch.zeros(BINS, dtype=torch.int64, device=x.device)
            self.lower = self.upper = self.limit = self._deviations = torch.zeros((), dtype=dtype, device=x.device)
        low, high = (end.to(self.limit.dtype) for end in torch.aminmax(x))
        finite = torch.isfinite(high - low)
        # both propagate NaN
        self.lower = torch.minimum(self.lower, torch.where(finite, low, math.nan))
        self.upper = torch.maximum(self.upper, torch.where(finite, high, math.nan))
        # two passes over the mean; torch.std takes thirty times longer
        dims = tuple(range(1, x.dim()))
        buffer = x - x.mean(dim=dims, keepdim=True)
        self._deviations = self._deviations + (buffer.square_().sum(dim=dims) / (x[0].numel() - 1)).sqrt().sum()
        self._samples += len(x)
        self._make_room(torch.where(finite, torch.maximum(-low, high), 0))
        scale = (BINS / (2 * self.limit)).to(x.dtype)
        # clamped below, too, for what is not finite: its bin is any, but must be one
        bins = torch.mul(x, scale, out=buffer).add_(BINS / 2).to(torch.int32).clamp_(0, BINS - 1)
        # memory order, not index order: flattening a channels-last tensor would copy it
        flat = bins.permute(sorted(range(bins.dim()), key=bins.stride, reverse=True)).flatten()
        count = _count_on_host if x.device.type == 'cpu' else _count_on_device
        self.counts = self.counts + count(flat) * finite

    def _make_room(self, largest: Tensor) -> None:
        """Double the limit until ``largest`` (a scalar >= 0) fits, at once; the first one seen is the first limit."""
        limit = torch.where(self.limit > 0, self.limit, largest.clamp(min=SMALLEST))
        # mantissas in [1/2, 1) and exponents, whose comparison is exact where a logarithm's ceiling is not
        largest = torch.maximum(largest, limit)
        (reached, exponent), (mantissa, before) = torch.frexp(largest), torch.frexp(limit)
        once_more = reached > mantissa
        doublings = exponent - before + once_more
        # largest / reached is 2^exponent to the bit, which pow and ldexp do not promise on every device
        self.limit = mantissa * (largest / reached) * (1 + once_more.to(limit.dtype))
        middle = BINS // 2
        # shifts round down, as merging does on both sides of zero; after 13 of them nothing changes
        places = torch.arange(-middle, middle, device=limit.device) >> doublings.clamp(max=BINS.bit_length())
        self.counts = torch.zeros_like(self.counts).scatter_add_(0, places + middle, self.counts)


def _count_on_host(bins: Tensor) -> Tensor:
    """How often each bin occurs, (BINS,), int64; NumPy is three times faster than torch.histc, six than bincount."""
    return torch.from_numpy(np.bincount(bins.numpy(), minlength=BINS))


def _count_on_device(bins: Tensor) -> Tensor:
    """The same without a host read, which torch.bincount needs for its size; histc in float32 stops at 2^24.

    Into several histograms in turn: half of what an activation function leaves is zero, and additions to one place wait
    for each other.
    """
    places = torch.arange(len(bins), device=bins.device).remainder_(HISTOGRAMS).mul_(BINS).add_(bins)
    counts = torch.zeros(HISTOGRAMS * BINS, dtype=torch.int64, device=bins.device)
    return counts.scatter_add_(0, places, torch.ones_like(counts[:1]).expand(len(bins))).view(HISTOGRAMS, BINS).sum(0)


@dataclass(frozen=True)
class Observed:
    """Statistics of the inputs of L layers, all on one device, in float64.

    Attributes:
        names: Of the layers, L.
        lower: Smallest value seen, at most 0, (L,); NaN once a value was not finite.
        upper: Largest value seen, at least 0, (L,); NaN likewise.
        deviation: Mean over samples of the unbiased standard deviation (AdaBM's layer sensitivity), (L,).
        limit: Where each histogram ends, on both sides, (L,), > 0.
        counts: Histograms, (L, BINS).
    """

    names: tuple[str, ...]
    lower: Tensor
    upper: Tensor
    deviation: Tensor
    limit: Tensor
    counts: Tensor

    @classmethod
    def stack(cls, observers: Sequence[InputObserver], names: Sequence[str]) -> Observed:
        """What observers saw, under the names of their layers.

        They stay on their device if it has float64, since rules compare errors that differ little; else on the CPU.

        Raises:
            ValueError: If an observer has seen no batch.
        """
        pairs = list(zip(names, observers, strict=True))
        if unseen := [name for name, observer in pairs if observer.counts is None]:
            raise ValueError(f'these layers saw no input: {", ".join(unseen)}')
        device = observers[0].counts.device
        device = device if has_float64(device) else torch.device('cpu')

        def stacked(name: str) -> Tensor:
            return torch.stack([getattr(one, name) for one in observers]).to(device).to(torch.float64)

        return cls(tuple(names), *map(stacked, ('lower', 'upper', 'deviation', 'limit', 'counts')))

    @property
    def centers(self) -> Tensor:
        """Middle of each bin, (L, BINS)."""
        places = torch.arange(1 - BINS, BINS, 2, dtype=torch.float64, device=self.limit.device)
        return self.limit.unsqueeze(1) * (places / BINS)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Observed:
        """Some of the layers, in this order; one as an ``Observed`` of length 1. Only a tensor's values are read."""
        if isinstance(index, int):
            index = [range(len(self))[index]]
        names = self.names[index] if isinstance(index, slice) else tuple(self.names[int(one)] for one in index)
        return Observed(names, *(tensor[index] for tensor in self._tensors()))

    def to(self, device: torch.device | str) -> Observed:
        """The same on another device."""
        return Observed(self.names, *(tensor.to(device) for tensor in self._tensors()))

    def _tensors(self) -> list[Tensor]:
        return [getattr(self, one.name) for one in fields(self)[1:]]


class _EnoughSeen(BaseException):
    """Ends a forward whose remaining layers nobody observes; no network's ``except Exception`` may stop it."""


@contextmanager
def observing(
    layers: Sequence[nn.Module], observers: Sequence[InputObserver], stop_after: Sequence[nn.Module] = ()
) -> Iterator[list[nn.Module]]:
    """Let each observer see its layer's input within this block; no hook stays behind.

    Args:
        layers: The layers.
        observers: One each.
        stop_after: End the block's forward once exactly these layers ran, in this order; empty: never. Where only the
            body is quantized, upsampler and tail are half of a network's work.

    Yields:
        The layers observed so far, in the order in which they ran.
    """
    ran: list[nn.Module] = []
    last = list(stop_after)

    def watch(observer: InputObserver):
        def look(layer: nn.Module, inputs: tuple) -> None:
            observer.observe(inputs[0])
            ran.append(layer)
            if last and ran == last:
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
