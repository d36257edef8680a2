"""Clipping ranges as learnable modules: positive and ordered by construction, learned relative to their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynq_basicsr.quantization.options import FLOAT_BITS, WeightOptions

# Far below any activation that matters, yet above zero: a dead layer (all zeros) still has a range to divide by.
SMALLEST = 1e-8


class ActivationRange(nn.Module):
    """Per-tensor clipping range [lower, upper] with lower <= 0 <= upper.

    The parameters are logarithms of the two magnitudes. A gradient step of size r therefore moves a bound by the
    fraction r of itself, whatever its scale, and can never make it change sign or cross the other one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_lower = nn.Parameter(torch.zeros(()))
        self.log_upper = nn.Parameter(torch.zeros(()))

    @property
    def lower(self) -> Tensor:
        """Lower bound, scalar, <= 0."""
        return -self.log_lower.exp()

    @property
    def upper(self) -> Tensor:
        """Upper bound, scalar, > 0."""
        return self.log_upper.exp()

    @torch.no_grad()
    def set(self, lower: float, upper: float) -> None:
        """Set the bounds; the range is widened to hold zero, so that zero padding stays exact."""
        self.log_lower.fill_(max(-float(lower), SMALLEST)).log_()
        self.log_upper.fill_(max(float(upper), SMALLEST)).log_()


class WeightRange(nn.Module):
    """Symmetric clipping bound of a weight, per tensor or per output channel, and where it is rounded from.

    Args:
        weight: The weight it belongs to, (C_out, ...).
        options: Bits, granularity and rounding.

    Attributes:
        offset: What learned rounding adds to each weight, in units of ``upper / 2^(bits - 1)``, about one step; of the
            weight's shape; ``None`` where rounding is not learned.
    """

    def __init__(self, weight: Tensor, options: WeightOptions) -> None:
        super().__init__()
        self.bits = options.bits
        shape = (weight.shape[0], *[1] * (weight.dim() - 1)) if options.per_channel else ()
        self.log_upper = nn.Parameter(torch.zeros(shape))
        learned = options.rounding == 'learned' and options.bits != FLOAT_BITS
        self.offset = nn.Parameter(torch.zeros_like(weight)) if learned else None

    @property
    def upper(self) -> Tensor:
        """Clipping bound, > 0: scalar or (C_out, 1, ...)."""
        return self.log_upper.exp()

    def moved(self, weight: Tensor) -> Tensor:
        """The weight with its offset."""
        if self.offset is None:
            return weight
        return weight + self.offset * (self.upper.detach() / 2 ** (self.bits - 1))

    @torch.no_grad()
    def set(self, upper: Tensor) -> None:
        """Set the bound, broadcast to the shape of this range; offsets begin anew at zero."""
        self.log_upper.copy_(upper.clamp(min=SMALLEST).log())
        if self.offset is not None:
            self.offset.zero_()
