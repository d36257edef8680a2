"""How calibration finds the clipping range of each layer's input."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from dynq_basicsr.config.adabm import AdaBMOptions
from dynq_basicsr.quantization.observers import Observed
from dynq_basicsr.quantization.range_rules import RangeRules
from dynq_basicsr.quantization.searches import search_clipping, search_step


@dataclass(frozen=True)
class Clipping:
    """What a quantizer asks for its first ranges.

    Attributes:
        bit_aware: Search the range with the least error at the layer's bits (AdaBM, section 3.5); otherwise ``rules``.
        norm: Exponent of the error: 2 as in the paper, 1 for the absolute error.
        rules: Minimum and maximum, percentiles or density.
    """

    bit_aware: bool = True
    norm: float = 2.0
    rules: RangeRules = field(default_factory=RangeRules)

    @classmethod
    def of(cls, recipe: AdaBMOptions) -> Clipping:
        """What a recipe says of it."""
        return cls(recipe.bit_aware_clipping, recipe.clipping_norm, RangeRules.of(recipe))

    def bounds(self, observed: Observed, bits: Tensor, grid: str = 'integer') -> tuple[Tensor, Tensor]:
        """(lower, upper) of L layers at bits (L,): each (L,)."""
        if self.bit_aware:
            return self.search(observed, bits, grid)
        return self.rules.activation_bounds(observed)

    def search(self, observed: Observed, bits: Tensor, grid: str = 'integer') -> tuple[Tensor, Tensor]:
        """The same, by search whatever ``bit_aware`` says: a range that belongs to one bit-width."""
        return search_clipping(observed, bits, grid, self.norm)

    def step(self, observed: Observed, low: Tensor, high: Tensor) -> Tensor:
        """The best step of L layers on grids of integers ``low`` .. ``high``, (L,)."""
        return search_step(observed, low, high, self.norm)
