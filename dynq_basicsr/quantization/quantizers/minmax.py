"""AdaBM's quantizer: one clipping range a layer, for all bit-widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynq_basicsr.quantization.grids import GRIDS, SMALLEST, integer_grid, literal_grid
from dynq_basicsr.quantization.quantizers.base import QUANTIZERS, ActivationQuantizer, stacked

if TYPE_CHECKING:
    from dynq_basicsr.quantization.clipping import Clipping
    from dynq_basicsr.quantization.observers import Observed


@QUANTIZERS.register('range')
class ActivationRange(ActivationQuantizer):
    """Per-tensor clipping range [lower, upper] with lower <= 0 <= upper.

    The parameters are logarithms of the two magnitudes. A gradient step of size r therefore moves a bound by the
    fraction r of itself, whatever its scale, and can never make it change sign or cross the other one. Scale
    S = (u - l) / (2^b - 1); the integer grid rounds the zero point -l / S (AdaBM Eq. 1), ``grid: literal`` does not.
    """

    grids = GRIDS

    def __init__(self, candidates: Sequence[int] = (), grid: str = 'integer', gradient: str = 'identity') -> None:
        super().__init__(candidates, grid, gradient)
        shape = self._shape()
        self.log_lower = nn.Parameter(torch.zeros(shape))
        self.log_upper = nn.Parameter(torch.zeros(shape))

    def _shape(self) -> tuple[int, ...]:
        """Of each bound."""
        return ()

    @property
    def lower(self) -> Tensor:
        """Lower bound, < 0."""
        return -self.log_lower.exp()

    @property
    def upper(self) -> Tensor:
        """Upper bound, > 0."""
        return self.log_upper.exp()

    @torch.no_grad()
    def set(self, lower: Tensor | float, upper: Tensor | float) -> None:
        """Set the bounds; the range is widened to hold zero, so that zero padding stays exact."""
        self.log_lower.copy_(-torch.as_tensor(lower)).clamp_(min=SMALLEST).log_()
        self.log_upper.copy_(torch.as_tensor(upper)).clamp_(min=SMALLEST).log_()

    @classmethod
    def bounds_table(cls, quantizers: Sequence[ActivationRange], bits: Tensor) -> tuple[Tensor, Tensor]:
        """Lower and upper bound of L layers at bits (L, N), each (L, N) or (L, 1)."""
        return -stacked(quantizers, 'log_lower').exp(), stacked(quantizers, 'log_upper').exp()

    def grid(self, bits: Tensor) -> Tensor:
        """(3, N) at bits (N,)."""
        return self.grid_table([self], bits.unsqueeze(0))[0]

    @classmethod
    def grid_table(cls, quantizers: Sequence[ActivationRange], bits: Tensor) -> Tensor:
        """(L, 3, N) at bits (L, N), all layers at once."""
        make = literal_grid if quantizers[0].grid_kind == 'literal' else integer_grid
        return make(*cls.bounds_table(quantizers, bits), bits).movedim(0, 1).contiguous()

    def quantize(self, x: Tensor, grid: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Fake-quantize activations (N, ...) on a row of ``grid_table``; the literal grid begins at the lower bound."""
        if self.grid_kind == 'literal':
            return (super().quantize(x - self.lower, grid) + self.lower).to(dtype or x.dtype)
        return super().quantize(x, grid, dtype)

    def calibrate(self, observed: Observed, bits: Tensor, clipping: Clipping) -> None:
        """Take the range that the rule of ``clipping`` finds."""
        self.calibrate_all([self], observed, bits, clipping)

    @classmethod
    def calibrate_all(
        cls, quantizers: Sequence[ActivationRange], observed: Observed, bits: Tensor, clipping: Clipping
    ) -> None:
        """The same for L layers at once."""
        lower, upper = clipping.bounds(observed, bits, quantizers[0].grid_kind)
        for one, low, high in zip(quantizers, lower.unbind(), upper.unbind(), strict=True):
            one.set(low, high)
