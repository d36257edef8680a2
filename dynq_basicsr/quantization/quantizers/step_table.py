"""Learned quantization steps, one for each bit-width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from dynq_basicsr.quantization.grids import SMALLEST
from dynq_basicsr.quantization.quantizers.base import QUANTIZERS, ActivationQuantizer, place_among, stacked

if TYPE_CHECKING:
    from dynq_basicsr.quantization.clipping import Clipping
    from dynq_basicsr.quantization.observers import Observed

# Inputs above it count as never negative, as in QuantSR's code.
NEGATIVE = -1e-5


def _slopes(places: Tensor) -> Tensor:
    """(C, C): times values at these places, the slope at each, as ``torch.gradient`` has it; zero if it is but one."""
    if len(places) == 1:
        return torch.zeros(1, 1)
    return torch.gradient(torch.eye(len(places)), spacing=(places,), dim=0)[0]


@QUANTIZERS.register('learned_step')
class StepTable(ActivationQuantizer):
    """Learned steps on 0 .. 2^b - 1, or on -2^(b-1) .. 2^(b-1) - 1 where calibration saw negative values (LSQ, Esser et
    al., ICLR 2020, with a step a bit-width as in QuantSR, Qin et al., NeurIPS 2023).

    The parameters are logarithms, so that steps stay positive and a rate is relative to each. A sample is quantized
    once, at its own bits. The gradient to the bits takes the logarithm of the step as a smooth function of the bits,
    with the slope of the candidates around it.
    """

    symmetric: ClassVar[bool] = False

    def __init__(self, candidates: Sequence[int], grid: str = 'integer', gradient: str = 'identity') -> None:
        super().__init__(candidates, grid, gradient)
        self.register_buffer('slopes', _slopes(self.candidates), persistent=False)
        self.register_buffer('signed', torch.tensor(self.symmetric))
        self.log_step = nn.Parameter(torch.zeros(len(candidates)))

    @classmethod
    def limits(cls, bits: Tensor, signed: Tensor) -> tuple[Tensor, Tensor]:
        """Smallest and largest integer at these bits; ``signed``: whether values below zero have levels."""
        half = 2 ** (bits - 1)
        if cls.symmetric:
            return 1 - half, half - 1
        low = half * -signed.to(half.dtype)
        return low, low + (2 * half - 1)

    def grid(self, bits: Tensor) -> Tensor:
        """(3, N) at bits (N,), each a candidate."""
        return self.grid_table([self], bits.unsqueeze(0))[0]

    @classmethod
    def grid_table(cls, quantizers: Sequence[StepTable], bits: Tensor) -> Tensor:
        """(L, 3, N) at bits (L, N), all layers at once."""
        first, log_steps = quantizers[0], stacked(quantizers, 'log_step')
        index = place_among(bits, first.candidates)
        log_step = log_steps.gather(1, index)
        if bits.requires_grad:
            # adds nothing but a gradient to the bits, from the steps of the candidates around; one bit more halves the
            # step where there is but one
            alone = len(first.candidates) == 1
            slopes = log_steps.detach() @ first.slopes.T if not alone else torch.full_like(log_steps, -math.log(2))
            log_step = log_step + slopes.gather(1, index) * (bits - bits.detach())
        step = log_step.exp().clamp(min=SMALLEST)
        low, high = cls.limits(bits, stacked(quantizers, 'signed'))
        return torch.stack((step, low.expand_as(step), high.expand_as(step)), dim=1)

    @torch.no_grad()
    def set(self, steps: Tensor, signed: Tensor | bool) -> None:
        """Set the step of each candidate, (C,), and whether values below zero have levels."""
        self.log_step.copy_(steps.clamp(min=SMALLEST).log())
        self.signed.copy_(torch.as_tensor(signed)).logical_or_(torch.as_tensor(self.symmetric))

    def calibrate(self, observed: Observed, bits: Tensor, clipping: Clipping) -> None:
        """The best step at each candidate bit-width; levels below zero where the layer saw values below zero.

        LSQ and QuantSR start from 2 E|x| / sqrt(2^b - 1) of the first batch instead, and learn for longer.
        """
        self.calibrate_all([self], observed, bits, clipping)

    @classmethod
    def calibrate_all(
        cls, quantizers: Sequence[StepTable], observed: Observed, bits: Tensor, clipping: Clipping
    ) -> None:
        """The same for L layers at once."""
        signed = observed.lower < NEGATIVE
        candidates = quantizers[0].candidates.to(bits).tolist()
        limits = [cls.limits(torch.full_like(bits, one), signed) for one in candidates]
        steps = torch.stack([clipping.step(observed, low, high) for low, high in limits], dim=1)
        for one, row, negative in zip(quantizers, steps.unbind(), signed.unbind(), strict=True):
            one.set(row, negative)


@QUANTIZERS.register('pams')
class SymmetricStepTable(StepTable):
    """The same on -(2^(b-1) - 1) .. 2^(b-1) - 1 always (PAMS, Li et al., ECCV 2020).

    PAMS's bound alpha is ``step * (2^(b-1) - 1)``.
    """

    symmetric = True
