"""Clipping ranges as learnable modules: positive and ordered by construction, learned relative to their size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
    """Symmetric clipping bound of a weight, per tensor or per output channel.

    Args:
        weight: The weight it belongs to, (C_out, ...).
        per_channel: One bound per output channel instead of one in all.
    """

    def __init__(self, weight: Tensor, per_channel: bool = False) -> None:
        super().__init__()
        shape = (weight.shape[0], *[1] * (weight.dim() - 1)) if per_channel else ()
        self.log_upper = nn.Parameter(torch.zeros(shape))

    @property
    def upper(self) -> Tensor:
        """Clipping bound, > 0: scalar or (C_out, 1, ...)."""
        return self.log_upper.exp()

    @torch.no_grad()
    def set(self, upper: Tensor) -> None:
        """Set the bound, broadcast to the shape of this range."""
        self.log_upper.copy_(upper.clamp(min=SMALLEST).log())
