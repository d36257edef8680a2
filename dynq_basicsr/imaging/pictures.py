"""Pictures as upscalers meet them: grey or coloured, with transparency or without, of 8 or 16 bits or floats."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.imaging.image_bytes import decode, read_facts, unreadable


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        colour: (H, W, 3) RGB or (H, W, 1) grey: uint8, uint16, or float in [0, 1].
        alpha: (H, W, 1) of the same type, or None.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None


def read_picture(path: Path) -> Picture:
    """Read a picture, turned as its EXIF orientation says.

    Raises:
        DynqError: If it is damaged or cut off, or neither of 8 nor of 16 bits a channel.
        OSError: If the file cannot be read.
    """
    return decode_picture(path.read_bytes(), str(path))


def decode_picture(content: bytes, name: str) -> Picture:
    """Decode a picture, turned as its EXIF orientation says.

    Args:
        content: The encoded picture.
        name: The file, to be named in the error.

    Raises:
        DynqError: If it is damaged or cut off, or neither of 8 nor of 16 bits a channel.
    """
    facts = read_facts(content, name)
    # OpenCV keeps transparency only where nothing else is asked of it, orientation included
    flag = cv2.IMREAD_UNCHANGED if facts.alpha else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    image = decode(content, flag)
    if image is None:
        raise unreadable(name)
    if image.dtype not in (np.uint8, np.uint16):
        raise DynqError(f'{name}: the image has {8 * image.itemsize} bits per channel; convert it to 8 or 16.')
    image = image if image.ndim == 3 else image[..., None]
    alpha = image[..., 3:] if image.shape[2] == 4 else None
    if facts.channels == 1 or image.shape[2] == 1:
        return Picture(image[..., :1], alpha)
    return Picture(cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2RGB), alpha)


def as_picture(image: np.ndarray | str | os.PathLike[str]) -> Picture:
    """A picture from Python.

    Args:
        image: (H, W, 3) RGB, or (H, W) or (H, W, 1) grey: uint8, uint16, or float in [0, 1]; or a file, whose
            transparency is left out.

    Raises:
        DynqError: If it is neither, or the file cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        try:
            return Picture(read_picture(Path(image)).colour)
        except OSError as error:
            raise DynqError(f'{image}: cannot be read ({error.strerror}).') from error
    if not isinstance(image, np.ndarray):
        raise DynqError(f'an image must be an array or a file, not {shown(image)}.')
    pixels = image[..., None] if image.ndim == 2 else image
    is_float = np.issubdtype(pixels.dtype, np.floating)
    sound = pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size
    if not sound or not (is_float or pixels.dtype in (np.uint8, np.uint16)):
        raise DynqError(
            'an image must be (H, W, 3) or (H, W), of uint8, uint16, or floats in [0, 1], not '
            f'{image.dtype} {image.shape}.'
        )
    if is_float and not (pixels.min() >= -0.01 and pixels.max() <= 1.01):  # NaN is neither
        raise DynqError('an image of floats must lie in [0, 1]; divide it by its white, as 255.')
    return Picture(pixels)
