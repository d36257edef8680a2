"""The protocol of activation quantizers: from bits to a grid, for one layer or for all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from dynq_basicsr.errors import DynqError
from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.registry import Registry

if TYPE_CHECKING:
    from dynq_basicsr.quantization.clipping import Clipping
    from dynq_basicsr.quantization.observers import Observed


class ActivationQuantizer(nn.Module):
    """Quantizes the input of one layer; its parameters are learned, saved and counted with the network.

    A subclass gives ``grid`` and ``calibrate``, and registers itself (``QUANTIZERS.register``). Layers quantize with
    the rows of ``grid_table``, which a subclass overrides where all layers can be computed together.

    Args:
        candidates: Ascending bit-widths that the layer can be asked for.
        grid: The option ``quantization.activation.grid``, one of ``grids``.
        gradient: Of rounding, see ``fake_quantize``.

    Attributes:
        grids: Values of the option ``grid`` that it knows.

    Raises:
        DynqError: If it does not know the grid.
    """

    grids: ClassVar[tuple[str, ...]] = ('integer',)

    def __init__(self, candidates: Sequence[int], grid: str = 'integer', gradient: str = 'identity') -> None:
        super().__init__()
        if grid not in self.grids:
            raise DynqError(
                f'network_g.quantization.activation.grid: {type(self).__name__} has the grid {self.grids[0]} only; '
                'leave grid out.'
            )
        self.grid_kind, self.gradient = grid, gradient
        self.register_buffer('candidates', torch.tensor(candidates, dtype=torch.float32), persistent=False)

    def grid(self, bits: Tensor) -> Tensor:
        """The grid at these bits.

        Args:
            bits: (N,), of each sample, or (1,) for all; each a candidate. May have a gradient.

        Returns:
            (3, N): scale > 0, smallest and largest integer; zero is one of them.
        """
        raise NotImplementedError

    @classmethod
    def grid_table(cls, quantizers: Sequence[ActivationQuantizer], bits: Tensor) -> Tensor:
        """The grids of several layers.

        Args:
            quantizers: Of this class, with the same candidates; L of them.
            bits: (L, N) or (L, 1).

        Returns:
            (L, 3, N).
        """
        return torch.stack([one.grid(row) for one, row in zip(quantizers, bits.unbind(), strict=True)])

    def quantize(self, x: Tensor, grid: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Fake-quantize activations (N, ...) on a row of ``grid_table``; ``dtype`` of the result, None: x's."""
        return fake_quantize(x, grid, self.gradient, dtype)

    @property
    def is_plain(self) -> bool:
        """Whether ``quantize`` is this class's, so that a layer may do it and its product in one step."""
        return type(self).quantize is ActivationQuantizer.quantize

    @torch.no_grad()
    def freeze(self, bits: float) -> tuple[Tensor, int, int]:
        """The grid at one bit-width, for integer kernels.

        Returns:
            Scale (float32, a scalar on the CPU), smallest and largest integer.

        Raises:
            ValueError: If its zero point is no integer, so that no integers give its numbers.
        """
        if self.grid_kind != 'integer':
            raise ValueError(f'quantization.activation.grid is {self.grid_kind}, whose zero point is no integer')
        scale, low, high = self.grid(self.candidates.new_tensor([bits])).flatten().float().cpu()
        return scale, int(low), int(high)

    def calibrate(self, observed: Observed, bits: Tensor, clipping: Clipping) -> None:
        """Set the parameters from what calibration saw of the layer's input.

        Args:
            observed: Of this layer alone, L = 1.
            bits: (1,), those that the layer typically gets.
            clipping: How ranges are found.
        """
        raise NotImplementedError

    @classmethod
    def calibrate_all(
        cls, quantizers: Sequence[ActivationQuantizer], observed: Observed, bits: Tensor, clipping: Clipping
    ) -> None:
        """``calibrate`` of several layers: of L quantizers, observed inputs, and bits (L,)."""
        for index, one in enumerate(quantizers):
            one.calibrate(observed[index : index + 1], bits[index : index + 1], clipping)


QUANTIZERS: Registry[type[ActivationQuantizer]] = Registry('quantizer', 'network_g.quantization.activation.quantizer')


def place_among(bits: Tensor, candidates: Tensor) -> Tensor:
    """Where bits, each a candidate, stand among ascending candidates (C,): of the shape of the bits."""
    return (bits.detach().unsqueeze(-1) > candidates).sum(dim=-1)


def stacked(quantizers: Sequence[nn.Module], name: str) -> Tensor:
    """An attribute of all quantizers, scalars or (C,): (L, 1) or (L, C)."""
    values = torch.stack([getattr(one, name) for one in quantizers])
    return values.unsqueeze(1) if values.dim() == 1 else values
