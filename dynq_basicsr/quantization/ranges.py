"""Ranges as learnable modules: positive and ordered by construction, learned relative to their size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynq_basicsr.quantization.fake_quantize import fake_quantize_activation, fake_quantize_step, integer_grid
from dynq_basicsr.quantization.options import FLOAT_BITS, QuantizationOptions, WeightOptions

# Far below any activation that matters, yet above zero: a dead layer (all zeros) still has a range to divide by.
SMALLEST = 1e-8


class ActivationRange(nn.Module):
    """Per-tensor clipping range [lower, upper] with lower <= 0 <= upper.

    The parameters are logarithms of the two magnitudes. A gradient step of size r therefore moves a bound by the
    fraction r of itself, whatever its scale, and can never make it change sign or cross the other one.

    Args:
        options: Grid and gradient of rounding.
        shape: Of the bounds.
    """

    def __init__(self, options: QuantizationOptions | None = None, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        options = options or QuantizationOptions()
        self.grid, self.gradient = options.activation.grid, options.rounding_gradient
        self.log_lower = nn.Parameter(torch.zeros(shape))
        self.log_upper = nn.Parameter(torch.zeros(shape))

    @property
    def lower(self) -> Tensor:
        """Lower bound, <= 0."""
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

    def bounds(self, bits: Tensor | float) -> tuple[Tensor, Tensor]:
        """(lower, upper) at these bits, scalars or (N,)."""
        return self.lower, self.upper

    def integer_grid(self, bits: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """Scale, smallest and largest integer at these bits, scalars or (N,); of ``grid: integer`` only."""
        return integer_grid(*self.bounds(bits), bits)

    def quantize(self, x: Tensor, bits: Tensor | float) -> Tensor:
        """Fake-quantize activations (N, ...) at these bits, a number or (N,)."""
        return fake_quantize_activation(x, *self.bounds(bits), bits, self.grid, self.gradient)


def _places(bits: Tensor | float, candidates: Tensor) -> tuple[Tensor, Tensor]:
    """Bits, each a candidate, as a tensor, and where they stand among the candidates."""
    bits = torch.as_tensor(bits, dtype=candidates.dtype, device=candidates.device)
    return bits, torch.searchsorted(candidates, bits.detach())


def _slopes(places: Tensor) -> Tensor:
    """(C, C): times values at these places, the slope at each, as ``torch.gradient`` has it; zero if it is but one."""
    if len(places) == 1:
        return torch.zeros(1, 1)
    return torch.gradient(torch.eye(len(places)), spacing=(places,), dim=0)[0]


class RangeTable(ActivationRange):
    """A clipping range for each candidate bit-width: fewer bits want a narrower one.

    What ``StepTable`` lacks is a zero point: an activation function such as PReLU leaves few values far below zero, and
    of a symmetric grid's levels they use a quarter (LSQ+, Bhalgat et al., CVPRW 2020). The gradient to the bits takes
    the range as it is.

    Args:
        candidates: Ascending bit-widths that the policy can choose.
        options: Gradient of rounding.
    """

    def __init__(self, candidates: Sequence[int], options: QuantizationOptions) -> None:
        super().__init__(options, (len(candidates),))
        self.register_buffer('candidates', torch.tensor(candidates, dtype=torch.float32), persistent=False)

    def bounds(self, bits: Tensor | float) -> tuple[Tensor, Tensor]:
        """(lower, upper) at these bits, each a candidate: scalars or (N,)."""
        _, index = _places(bits, self.candidates)
        return self.lower[index], self.upper[index]


class StepTable(nn.Module):
    """Learned quantization steps, one a candidate bit-width (LSQ as in QuantSR, or PAMS).

    ``learned_step`` quantizes to 0 .. 2^b - 1, or to -2^(b-1) .. 2^(b-1) - 1 where calibration saw negative values;
    ``pams`` to -(2^(b-1) - 1) .. 2^(b-1) - 1 always, its bound alpha being ``step * (2^(b-1) - 1)``. The parameters are
    logarithms, so that steps stay positive and a rate is relative to each.

    A sample is quantized once, at its own bits. The gradient to the bits takes the logarithm of the step as a smooth
    function of the bits, with the slope of the candidates around it.

    Args:
        candidates: Ascending bit-widths that the policy can choose.
        options: Which of the two quantizers, and the gradient of rounding.
    """

    def __init__(self, candidates: Sequence[int], options: QuantizationOptions) -> None:
        super().__init__()
        self.symmetric, self.gradient = options.activation.quantizer == 'pams', options.rounding_gradient
        values = torch.tensor(candidates, dtype=torch.float32)
        self.register_buffer('candidates', values, persistent=False)
        self.register_buffer('slopes', _slopes(values), persistent=False)
        self.register_buffer('signed', torch.tensor(self.symmetric))
        self.log_step = nn.Parameter(torch.zeros(len(candidates)))

    def limits(
        self, bits: Tensor | float, signed: Tensor | bool | None = None
    ) -> tuple[Tensor | float, Tensor | float]:
        """Smallest and largest integer at these bits; ``signed`` instead of what was set, where given."""
        half = 2 ** (bits - 1)
        if self.symmetric:
            return 1 - half, half - 1
        low = half * -(self.signed if signed is None else torch.as_tensor(signed)).to(torch.float32)
        return low, low + (2 * half - 1)

    def step(self, bits: Tensor | float) -> Tensor:
        """Step at these bits, each a candidate: a scalar, or (N,)."""
        bits, index = _places(bits, self.candidates)
        log_step = self.log_step[index]
        if bits.requires_grad:
            # adds nothing but a gradient to the bits, from the steps of the candidates around
            log_step = log_step + self._log_slopes()[index] * (bits - bits.detach())
        return log_step.exp().clamp(min=SMALLEST)

    def _log_slopes(self) -> Tensor:
        """Slope of the logarithm of the step at each candidate; one bit more halves it where there is but one."""
        if len(self.candidates) == 1:
            return torch.full_like(self.candidates, -math.log(2))
        return self.slopes @ self.log_step.detach()

    @torch.no_grad()
    def set(self, steps: Tensor, signed: bool) -> None:
        """Set the step of each candidate, (C,), and whether values below zero have levels."""
        self.log_step.copy_(steps.clamp(min=SMALLEST).log())
        self.signed.fill_(signed or self.symmetric)

    def integer_grid(self, bits: Tensor | float) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """Step, smallest and largest integer at these bits, numbers, scalars or (N,)."""
        return self.step(bits), *self.limits(bits)

    def quantize(self, x: Tensor, bits: Tensor | float) -> Tensor:
        """Fake-quantize activations (N, ...) at these bits, a number or (N,), each a candidate."""
        return fake_quantize_step(x, *self.integer_grid(bits), self.gradient)


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
