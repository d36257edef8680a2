"""Bicubic enlargement: the tier of flat patches, and the way of transparency."""

from __future__ import annotations

import math

import numpy as np

from dynq_basicsr.patch_grid import Box

MARGIN = 2  # pixels on each side that the kernel reaches


def enlarge(image: np.ndarray, box: Box, scale: int) -> np.ndarray:
    """Enlarge a part of an image with Keys' kernel (a = -0.5), MATLAB's ``imresize`` and that of LR data sets.

    Pixels around the part are taken into account, so parts fit together without seams; borders of the image are
    mirrored. When enlarging, MATLAB's antialiasing changes nothing.

    Args:
        image: (H, W, C).
        box: The part, pixels of ``image``.
        scale: Integer factor.

    Returns:
        (scale * h, scale * w, C), float32, neither rounded nor clipped.
    """
    top, left, bottom, right = box
    rows, columns = (_mirrored(*span) for span in ((top, bottom, image.shape[0]), (left, right, image.shape[1])))
    part = image[np.ix_(rows, columns)].astype(np.float32)
    return _stretch(_stretch(part, scale).swapaxes(0, 1), scale).swapaxes(0, 1)


def _mirrored(start: int, end: int, length: int) -> np.ndarray:
    """Indices of a span and its margin; beyond the border, ..., 1, 0, 0, 1, ..."""
    indices = np.arange(start - MARGIN, end + MARGIN) % (2 * length)
    return np.where(indices < length, indices, 2 * length - 1 - indices)


def _stretch(x: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge the first axis, (n + 2 * MARGIN, ...) -> (scale * n, ...)."""
    count = len(x) - 2 * MARGIN
    result = np.empty((scale * count, *x.shape[1:]), np.float32)
    for phase in range(scale):
        centre = MARGIN + (phase + 0.5) / scale - 0.5
        first = math.floor(centre) - 1
        weights = (_cubic(centre - tap) for tap in range(first, first + 4))
        result[phase::scale] = sum(
            np.float32(weight) * x[tap : tap + count] for tap, weight in enumerate(weights, start=first)
        )
    return result


def _cubic(x: float) -> float:
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
