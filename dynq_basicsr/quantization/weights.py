"""Quantized weights: a learnable bound for each, and the weights of many layers quantized at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynq_basicsr.config.quantization import FLOAT_BITS, WeightOptions
from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.quantization.grids import SMALLEST, literal_grid, weight_grid

# Weights of up to so many values are quantized together: their operators take longer to start than to run, and to
# stack larger ones costs more than it saves.
STACKED = 2**18


class WeightRange(nn.Module):
    """Symmetric clipping bound of a weight, per tensor or per output channel, and the offset that rounding learned.

    Args:
        weight: The weight it belongs to, (C_out, ...).
        options: Bits, granularity and rounding.

    Attributes:
        offset: What learned rounding adds to each weight, in units of ``upper / 2^(bits - 1)``, about one step; of the
            weight's shape; ``None`` where rounding is not learned.
    """

    def __init__(self, weight: Tensor, options: WeightOptions) -> None:
        super().__init__()
        self.options = options
        shape = (weight.shape[0], *[1] * (weight.dim() - 1)) if options.per_channel else ()
        self.log_upper = nn.Parameter(torch.zeros(shape))
        learned = options.rounding == 'learned' and options.bits != FLOAT_BITS
        self.offset = nn.Parameter(torch.zeros_like(weight)) if learned else None

    @property
    def upper(self) -> Tensor:
        """Clipping bound, > 0: scalar or (C_out, 1, ...)."""
        return self.log_upper.exp()

    def grid(self) -> Tensor:
        """(3, 1), or (3, C_out) per channel, of ``grid: integer``: scale, smallest and largest integer."""
        return weight_grid(self.upper.flatten(), self.options.bits)

    def with_offset(self, weight: Tensor) -> Tensor:
        """The weight with its rounding offset."""
        if self.offset is None:
            return weight
        return weight + self.offset * (self.upper.detach() / 2 ** (self.options.bits - 1))

    @torch.no_grad()
    def set(self, upper: Tensor) -> None:
        """Set the bound, broadcast to the shape of this range; offsets begin anew at zero."""
        self.log_upper.copy_(upper.clamp(min=SMALLEST).log())
        if self.offset is not None:
            self.offset.zero_()


def quantize_weights(
    weights: Sequence[Tensor], ranges: Sequence[WeightRange], gradient: str, dtype: torch.dtype | None = None
) -> list[Tensor]:
    """Fake-quantize weights, those of one shape and layout together.

    Args:
        weights: Each (C_out, ...).
        ranges: One each; those of 32 bits leave their weight as it is.
        gradient: Of rounding, see ``fake_quantize``.
        dtype: Of the results; None: each weight's.

    Returns:
        One a weight, of its shape.
    """
    results: list[Tensor] = list(weights)
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, (weight, own) in enumerate(zip(weights, ranges, strict=True)):
        if own.options.bits != FLOAT_BITS:
            alone = index if weight.numel() > STACKED else None
            kind = own.options.bits, own.options.grid, own.options.granularity
            groups[kind, weight.shape, _is_channels_last(weight), alone].append(index)
    for (_, _, last, _), members in groups.items():
        quantized = _quantize_group(weights, ranges, members, last, gradient, dtype)
        for index, result in zip(members, quantized, strict=True):
            results[index] = result
    return results


def _is_channels_last(weight: Tensor) -> bool:
    return weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last)


def _quantize_group(
    weights: Sequence[Tensor],
    ranges: Sequence[WeightRange],
    members: Sequence[int],
    last: bool,
    gradient: str,
    dtype: torch.dtype | None,
) -> Sequence[Tensor]:
    """Weights of one shape and of the same options; ``last``: all channels last."""
    options = ranges[members[0]].options
    # Stacked and taken apart in the order of memory, so that layouts stay as they are.
    rows = [ranges[index].with_offset(weights[index]) for index in members]
    rows = [row.permute(0, 2, 3, 1) for row in rows] if last else rows
    stack = torch.stack(rows) if len(rows) > 1 else rows[0].unsqueeze(0)  # one alone is not copied
    upper = torch.stack([ranges[index].log_upper for index in members]).exp().flatten()
    flat = stack.flatten(0, 1) if options.per_channel else stack
    if options.grid == 'literal':  # from -upper to upper, and no zero (AdaBM's published code)
        bound = upper.repeat_interleave(len(flat) // len(upper)).view(-1, *[1] * (flat.dim() - 1))
        flat = fake_quantize(flat + bound, literal_grid(-upper, upper, options.bits), gradient) - bound
        flat = flat if dtype is None else flat.to(dtype)
    else:
        flat = fake_quantize(flat, weight_grid(upper, options.bits), gradient, dtype)
    quantized = flat.view(stack.shape).unbind()
    return [one.permute(0, 3, 1, 2) for one in quantized] if last else quantized
