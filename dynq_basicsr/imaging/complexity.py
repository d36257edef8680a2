"""How much a patch holds: gradient density and entropy, as ``policies.complexity`` computes them in PyTorch."""

from __future__ import annotations

import cv2
import numpy as np

LUMA = (0.299, 0.587, 0.114)  # weights of R, G, B in grey (ITU-R BT.601)
# Of the histogram that ``entropy`` is taken of: as in Granular-DQ's published code.
ENTROPY_BINS = 32
ENTROPY_WIDTH = 0.0255


def gradient_density(image: np.ndarray) -> float:
    """Average gradient density, as ``policies.complexity.gradient_density``.

    Args:
        image: (C, H, W), float32 in [0, 1], RGB or grey.

    Returns:
        Mean of |gx| and |gy| of Sobel / 8, times 1000; >= 0.
    """
    grey = _grey(image)
    total = 0.0
    for dx, dy in ((1, 0), (0, 1)):
        gradient = cv2.Sobel(grey, cv2.CV_32F, dx, dy, ksize=3, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
        total += cv2.norm(gradient, cv2.NORM_L1)
    return 1000 * total / (2 * grey.size)


def entropy(image: np.ndarray) -> float:
    """Entropy of the grey levels, as ``policies.complexity.entropy``.

    Args:
        image: (C, H, W), float32 in [0, 1], RGB or grey.

    Returns:
        Nats, >= 0.
    """
    grey = _grey(image).ravel()
    room = np.empty_like(grey)
    mass = np.empty(ENTROPY_BINS)
    for index, level in enumerate(np.linspace(0, 1, ENTROPY_BINS, dtype=np.float32)):
        np.subtract(grey, level, out=room)
        np.square(room, out=room)
        np.multiply(room, np.float32(-1 / (2 * ENTROPY_WIDTH**2)), out=room)
        mass[index] = np.exp(room, out=room).sum(dtype=np.float64)
    share = np.maximum(mass / mass.sum(), np.finfo(np.float32).tiny)
    return float(-(share * np.log(share)).sum())


def _grey(image: np.ndarray) -> np.ndarray:
    if len(image) == 3:
        return np.tensordot(np.float32(LUMA), image, 1)
    return np.ascontiguousarray(image.mean(axis=0))
