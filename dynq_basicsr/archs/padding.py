"""Images of any size through networks that want multiples or a least size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class SizeRequirement:
    """What sides of images a network takes, in pixels.

    Attributes:
        multiple: Of what a side must be a multiple.
        minimum: The least side.
    """

    multiple: int = 1
    minimum: int = 1

    def padded(self, side: int) -> int:
        """The least side that the network takes and that is not below ``side``."""
        return -(-max(side, self.minimum) // self.multiple) * self.multiple


def run_padded(run: Callable[[Tensor], Tensor], x: Tensor, sizes: SizeRequirement) -> Tensor:
    """Pad below and to the right, run, and crop what the padding became.

    Borders are reflected where the image is large enough for that, else repeated; nothing is touched where the sides
    are right already.

    Args:
        run: The network, (N, C, h, w) -> (N, C', s * h, s * w).
        x: (N, C, H, W).
        sizes: What h and w it takes.
    """
    height, width = x.shape[-2:]
    down, right = sizes.padded(height) - height, sizes.padded(width) - width
    if not (down or right):
        return run(x)
    mode = 'reflect' if down < height and right < width else 'replicate'
    result = run(F.pad(x, (0, right, 0, down), mode=mode))
    scale = result.shape[-1] // (width + right)
    return result[..., : scale * height, : scale * width]
