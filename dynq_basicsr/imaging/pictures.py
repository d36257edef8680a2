"""Pictures as upscalers meet them: grey or coloured, with transparency or without, of 8 or 16 bits or floats."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.given import as_array
from dynq_basicsr.imaging.metadata import Metadata
from dynq_basicsr.imaging.picture_decoder import decode_pixels


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        colour: (H, W, 3) RGB or (H, W, 1) grey: uint8, uint16, or float in [0, 1].
        alpha: Straight transparency, (H, W, 1) of the same type, or None.
        metadata: What its file says besides.
    """

    colour: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = Metadata()


def read_picture(path: Path, most: int | None = None, scale: int = 1) -> Picture:
    """Read a picture, turned as its EXIF orientation says.

    Args:
        path: The file.
        most: Pixels that it may have once it is ``scale`` times as high and wide; None: any number.
        scale: See ``most``.

    Raises:
        DynqError: If it is damaged or cut off, too large, of several frames, or neither of 8 nor of 16 bits a channel.
        OSError: If the file cannot be read.
    """
    return decode_picture(path.read_bytes(), str(path), most, scale)


def decode_picture(content: bytes, name: str, most: int | None = None, scale: int = 1) -> Picture:
    """Decode a picture, turned as its EXIF orientation says.

    Args:
        content: The encoded picture.
        name: The file, to be named in the error.
        most: See ``read_picture``.
        scale: See ``read_picture``.

    Raises:
        DynqError: If it is damaged or cut off, too large, of several frames, or neither of 8 nor of 16 bits a channel.
    """
    (colour, alpha), metadata = decode_pixels(content, name, most, scale)
    return Picture(colour, alpha, metadata)


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
    image = as_array(image)
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
