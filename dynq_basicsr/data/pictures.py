"""Pictures of any kind as images to calibrate with: converted to 8 bits, of a large one a window, RGB or luma."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from dynq_basicsr.imaging.pictures import decode_picture

WINDOW = 1024  # of a larger picture, a square of this side is kept: a hundred photographs fit into memory then


def read_any(content: bytes, name: str) -> Tensor:
    """Decode a picture: grey or coloured, of a palette, transparent (which is left out), of 8 or 16 bits, turned.

    Args:
        content: The encoded picture.
        name: The file, to be named in the error.

    Returns:
        (C, H, W), uint8; 3 channels (RGB) or 1 (grey).

    Raises:
        DynqError: If it is damaged or cut off, or neither of 8 nor of 16 bits a channel.
    """
    return as_tensor(with_8_bits(decode_picture(content, name).colour))


def with_8_bits(image: np.ndarray) -> np.ndarray:
    """An image of whole numbers, rounded to uint8."""
    if image.dtype == np.uint8:
        return image
    return np.rint(image / (np.iinfo(image.dtype).max / 255)).astype(np.uint8)


def as_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) -> (C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def window(image: Tensor, seed: int) -> Tensor:
    """A square of a large image, a function of the image and the seed alone; a smaller image as it is.

    Args:
        image: (C, H, W).
        seed: Of its place.

    Returns:
        (C, h, w), no side above ``WINDOW``; memory of its own.
    """
    height, width = image.shape[-2:]
    if max(height, width) <= WINDOW:
        return image
    random = np.random.default_rng([seed, zlib.crc32(image.cpu().numpy().tobytes())])
    top, left = (int(random.integers(max(side - WINDOW, 0) + 1)) for side in (height, width))
    return image[:, top : top + WINDOW, left : left + WINDOW].clone()
