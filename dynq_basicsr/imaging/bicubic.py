"""Bicubic enlargement: the tier of flat patches, and the way of transparency."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from dynq_basicsr.imaging.patch_grid import Box

MARGIN = 2  # pixels on each side that the kernel reaches


def enlarge(image: np.ndarray, box: Box, scale: int) -> np.ndarray:
    """Enlarge a part of an image with Keys' kernel (a = -0.5), MATLAB's ``imresize`` and that of LR data sets.

    Pixels around the part are taken into account, so parts fit together without seams; borders of the image are
    mirrored. When enlarging, MATLAB's antialiasing changes nothing.

    Args:
        image: (H, W, C).
        box: The part, pixels of ``image``; of the size of patches: time and memory grow with the square of its sides.
        scale: Integer factor.

    Returns:
        (C, scale * h, scale * w), float32, neither rounded nor clipped.
    """
    top, left, bottom, right = box
    rows, columns = (_mirrored(*span) for span in ((top, bottom, image.shape[0]), (left, right, image.shape[1])))
    part = np.ascontiguousarray(image[np.ix_(rows, columns)].transpose(2, 0, 1), np.float32)
    return _weights(bottom - top, scale) @ part @ _weights(right - left, scale).T


def _mirrored(start: int, end: int, length: int) -> np.ndarray:
    """Indices of a span and its margin; beyond the border, ..., 1, 0, 0, 1, ..."""
    indices = np.arange(start - MARGIN, end + MARGIN) % (2 * length)
    return np.where(indices < length, indices, 2 * length - 1 - indices)


@lru_cache(maxsize=8)
def _weights(count: int, scale: int) -> np.ndarray:
    """What each of scale * n results takes of n + 2 * MARGIN pixels; as a matrix, since products of those are fast."""
    matrix = np.zeros((scale * count, count + 2 * MARGIN), np.float32)
    for index, row in enumerate(matrix):
        centre = MARGIN + (index + 0.5) / scale - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            row[tap] = _cubic(centre - tap)
    return matrix


def _cubic(x: float) -> float:
    x = abs(x)
    return 1.5 * x**3 - 2.5 * x**2 + 1 if x <= 1 else -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
