"""Images as NumPy arrays: which value is white, how fine results are, and how networks take them."""

from __future__ import annotations

import numpy as np

from dynq_basicsr.imaging.patch_grid import Box

FLOAT_LEVELS = 2**24 - 1  # a float32 tells so many from 0.5 to 1


def white_of(kind: np.dtype) -> int:
    """The value that stands for white in images of a type: 1 for floats, else the largest."""
    return 1 if np.issubdtype(kind, np.floating) else int(np.iinfo(kind).max)


def levels_of(kind: np.dtype) -> int:
    """The largest whole number of a result that is as fine as images of a type."""
    return FLOAT_LEVELS if np.issubdtype(kind, np.floating) else white_of(kind)


def holding(most: int) -> type[np.unsignedinteger]:
    """The smallest type for whole numbers from 0 to ``most``."""
    return next(kind for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if most <= np.iinfo(kind).max)


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """A patch as networks take it: (H, W, C) of any type -> (C, h, w), float32 in [0, 1]."""
    top, left, bottom, right = box
    patch = np.ascontiguousarray(image[top:bottom, left:right].transpose(2, 0, 1), np.float32)
    return patch / np.float32(white_of(image.dtype))
