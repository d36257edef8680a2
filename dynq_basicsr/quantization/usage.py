"""The bits that one image really used, patch by patch and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dynq_basicsr.config.quantization import FLOAT_BITS
from dynq_basicsr.quantization.cost import NetworkCost


@dataclass
class BitUsage:
    """Bits of every patch of one image.

    Attributes:
        cost: What the network costs per pixel.
        boxes: Patches as (top, left, bottom, right) in LR pixels.
        height: Height of the LR image, pixels.
        width: Its width.
        bits: Adaptive layer -> bits of each patch, (P,).
        static: Static layer -> its bits; not in any mean, but in BitOPs.
    """

    cost: NetworkCost
    boxes: list[tuple[int, int, int, int]]
    height: int
    width: int
    bits: dict[str, Tensor] = field(default_factory=dict)
    static: dict[str, float] = field(default_factory=dict)

    def add(self, patches: list[int], names: Sequence[str], bits: Tensor) -> None:
        """Enter what a batch of patches used: the bits of these adaptive layers, (K, N), or (K, 1) for all patches."""
        for name, row in zip(names, bits.detach().float().cpu(), strict=True):
            self.bits.setdefault(name, torch.full((len(self.boxes),), float('nan')))[patches] = row

    @property
    def areas(self) -> Tensor:
        """Pixels of each patch, (P,)."""
        return torch.tensor([(bottom - top) * (right - left) for top, left, bottom, right in self.boxes]).double()

    @property
    def patch_bits(self) -> Tensor:
        """Mean bits over adaptive layers, (P,); 32 where there are none."""
        if not self.bits:
            return torch.full((len(self.boxes),), float(FLOAT_BITS), dtype=torch.float64)
        return torch.stack(list(self.bits.values())).double().mean(dim=0)

    @property
    def layer_bits(self) -> dict[str, float]:
        """Mean bits of each adaptive layer over patches, weighted by area."""
        share = self.areas / self.areas.sum()
        return {name: float((bits.double() * share).sum()) for name, bits in self.bits.items()}

    def fab(self, weighting: str = 'patch') -> float:
        """Feature average bit-width: mean over adaptive layers, then patches, each patch or pixel counting alike."""
        if weighting == 'area':
            return float((self.patch_bits * self.areas).sum() / self.areas.sum())
        return float(self.patch_bits.mean())

    def bitops(self, pixels: float | None = None) -> tuple[float, float]:
        """BitOPs of the quantized and the float part.

        Args:
            pixels: LR pixels to state them for; None: those that ran, overlaps counted twice.
        """
        layer_bits = self.layer_bits | self.static
        return self.cost.bitops(float(self.areas.sum()) if pixels is None else pixels, layer_bits)
