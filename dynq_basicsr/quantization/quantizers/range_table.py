"""A clipping range for each bit-width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dynq_basicsr.quantization.quantizers.base import QUANTIZERS, place_among, stacked
from dynq_basicsr.quantization.quantizers.minmax import ActivationRange

if TYPE_CHECKING:
    from dynq_basicsr.quantization.clipping import Clipping
    from dynq_basicsr.quantization.observers import Observed


@QUANTIZERS.register('learned_range')
class RangeTable(ActivationRange):
    """A clipping range for each candidate bit-width: fewer bits want a narrower one.

    What ``StepTable`` lacks is a zero point: an activation function such as PReLU leaves few values far below zero, and
    of a symmetric grid's levels they use a quarter (LSQ+, Bhalgat et al., CVPRW 2020). The gradient to the bits takes
    the range as it is.
    """

    grids = ('integer',)

    def _shape(self) -> tuple[int, ...]:
        return (len(self.candidates),)

    @classmethod
    def bounds_table(cls, quantizers: Sequence[RangeTable], bits: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound of L layers at bits (L, N), each a candidate: (L, N)."""
        index = place_among(bits, quantizers[0].candidates)
        lower, upper = (stacked(quantizers, name).gather(1, index).exp() for name in ('log_lower', 'log_upper'))
        return -lower, upper

    @classmethod
    def calibrate_all(
        cls, quantizers: Sequence[RangeTable], observed: Observed, bits: Tensor, clipping: Clipping
    ) -> None:
        """Bit-aware clipping at each candidate bit-width."""
        found = [clipping.search(observed, torch.full_like(bits, one)) for one in quantizers[0].candidates.tolist()]
        lower, upper = (torch.stack(bounds, dim=1) for bounds in zip(*found, strict=True))
        for one, low, high in zip(quantizers, lower.unbind(), upper.unbind(), strict=True):
            one.set(low, high)
