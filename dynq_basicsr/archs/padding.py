"""Images of any size through networks that want multiples."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def run_padded(run: Callable[[Tensor], Tensor], x: Tensor, multiple: int) -> Tensor:
    """Pad below and to the right, run, and crop what the padding became.

    Borders are reflected where the image is large enough for that, else repeated; nothing is touched where the sides
    are multiples already.

    Args:
        run: The network, (N, C, h, w) -> (N, C', s * h, s * w).
        x: (N, C, H, W).
        multiple: Of what h and w must be multiples.
    """
    height, width = x.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not (down or right):
        return run(x)
    mode = 'reflect' if down < height and right < width else 'replicate'
    result = run(F.pad(x, (0, right, 0, down), mode=mode))
    scale = result.shape[-1] // (width + right)
    return result[..., : scale * height, : scale * width]
