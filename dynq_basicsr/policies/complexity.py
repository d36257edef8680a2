"""How much texture an image holds, as one number."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dynq_basicsr.imaging.complexity import ENTROPY_BINS, ENTROPY_WIDTH, LUMA

_CACHED = 2**19  # values


def gradient_density(image: Tensor) -> Tensor:
    """Average gradient density: mean of |gx| and |gy| of the grey image, times 1000.

    Gradients are Sobel's, divided by 8, with replicated borders; the mean runs over pixels and both directions
    (CADyQ's measure as AdaBM's published code averages it). A flat image gives 0, photographs 5 to 60.

    Args:
        image: (N, C, H, W) in [0, 1]; three channels are R, G, B, otherwise their mean is the grey image.

    Returns:
        (N,), >= 0.
    """
    padded = F.pad(_grey(image), (1, 1, 1, 1), mode='replicate')
    # Sobel is a mean of neighbours across, a difference along. Sums, since the numbers of a kernel would be sent to the
    # device in each call.
    total = 0.0
    for along, across in ((3, 2), (2, 3)):
        inner = padded.shape[across] - 2
        first, middle, last = (padded.narrow(across, start, inner) for start in range(3))
        smooth = (first + 2 * middle + last) / 4
        length = padded.shape[along] - 2
        slope = (smooth.narrow(along, 2, length) - smooth.narrow(along, 0, length)) / 2
        total = total + slope.abs().mean(dim=(1, 2, 3))
    return 1000 * total / 2


def entropy(image: Tensor) -> Tensor:
    """Entropy of the grey levels, in nats, from a kernel estimate of their distribution (Granular-DQ, section 3.3).

    A Gaussian of width 0.0255 around each pixel's grey level is read at 32 levels from 0 to 1, and averaged over the
    pixels. An image of one level has about 1.2, depending on where it lies between two bins; the most is ln 32 = 3.47.

    Args:
        image: (N, C, H, W) in [0, 1], of any shape; three channels are R, G, B, otherwise their mean is the grey image.

    Returns:
        (N,), >= 0.
    """
    grey = _grey(image).flatten(1)
    # as many bins at a time as stay in a cache: all at once would take 32 times the memory of the image, and more time
    levels = torch.linspace(0, 1, ENTROPY_BINS, device=grey.device, dtype=grey.dtype).view(-1, 1)
    scale = -1 / (2 * ENTROPY_WIDTH**2)
    some = levels.split(max(1, _CACHED // max(grey.numel(), 1)))
    # The bound is exp(-80), nothing beside the mass of other bins; below, exp takes ten times as long.
    parts = [(grey.unsqueeze(1) - one).square_().mul_(scale).clamp_(min=-80).exp_().mean(dim=2) for one in some]
    mass = torch.cat(parts, dim=1)
    share = (mass / mass.sum(dim=1, keepdim=True)).clamp(min=torch.finfo(mass.dtype).tiny)
    return -(share * share.log()).sum(dim=1)


def _grey(image: Tensor) -> Tensor:
    """(N, 1, H, W) of (N, C, H, W)."""
    if image.shape[1] == 3:
        red, green, blue = (weight * image[:, channel : channel + 1] for channel, weight in enumerate(LUMA))
        return red + green + blue
    return image.mean(dim=1, keepdim=True)
