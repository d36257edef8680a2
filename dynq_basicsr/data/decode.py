"""Strict decoding of 8-bit RGB images: what BasicSR would silently convert, or trip over, is named instead."""

from __future__ import annotations

import cv2
import numpy as np

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import decode, read_facts, unreadable


def check_rgb8(content: bytes, name: str, allow_grey: bool) -> None:
    """Refuse image bytes that are not a whole 8-bit RGB image, from the header alone where the format allows it.

    Args:
        content: The encoded image.
        name: The file, or the LMDB key, to be named in the error.
        allow_grey: Whether one channel is accepted too.

    Raises:
        DynqError: If the image is empty, cut off, has alpha, is not 8-bit, is CMYK, or is grey where it must not be.
    """
    facts = read_facts(content, name)
    if facts.alpha:
        problem = 'has an alpha channel'
    elif facts.bits != 8:
        problem = f'has {facts.bits} bits per channel'
    elif facts.channels == 1 and not allow_grey:
        problem = 'is greyscale'
    elif facts.channels not in (1, 3):
        problem = f'has {facts.channels} colour channels'
    else:
        return
    raise DynqError(f'{name}: the image {problem}; convert it to 8-bit RGB or remove it.')


def decode_rgb8(content: bytes, name: str, allow_grey: bool) -> np.ndarray:
    """Decode an 8-bit RGB image as BasicSR does (EXIF orientation applied), or say what is wrong with it.

    Args:
        content: The encoded image.
        name: The file, or the LMDB key, to be named in the error.
        allow_grey: Whether a grey image is accepted and expanded to three equal channels.

    Returns:
        The pixels, ``(H, W, 3)``, uint8, in **RGB** order.

    Raises:
        DynqError: As :func:`check_rgb8`, and if the bytes do not decode.
    """
    check_rgb8(content, name, allow_grey)
    image = decode(content, cv2.IMREAD_COLOR)
    if image is None:
        raise unreadable(name)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
