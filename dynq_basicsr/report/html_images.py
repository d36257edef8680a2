"""Images within an HTML file."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping

import cv2
import numpy as np

from dynq_basicsr.imaging.image_bytes import encode

GAIN = 8  # of differences, which are a few steps of 255 mostly
LOSSLESS = 'lossless WebP'
# In the order of preference: what it is called, and its quality; OpenCV takes more than 100 for no loss at all.
_WEBP = [(LOSSLESS, 101), *((f'WebP of quality {quality}', quality) for quality in (95, 90, 80, 65, 50, 30))]


def embed_alike(images: Mapping[str, np.ndarray], room: float) -> tuple[dict[str, str], str]:
    """Images that are to be compared, so all in the same encoding: the best that there is room for.

    Args:
        images: Name -> (H, W, 3), uint8, RGB.
        room: Bytes of the text for all of them together, kept as far as the lowest quality allows.

    Returns:
        Name -> data URI, and how they are encoded, in words.
    """
    for words, quality in _WEBP[:-1]:
        uris = _within(images, quality, room)
        if uris:
            return uris, words
    words, quality = _WEBP[-1]
    return _within(images, quality, math.inf), words


def embed(image: np.ndarray) -> str:
    """A small image, (H, W, 3), uint8, RGB, as a data URI, without loss."""
    return _uri(image, '.png', ())


def amplified_difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The absolute difference of two images (H, W, 3), uint8, times ``GAIN``."""
    return np.minimum(GAIN * np.abs(image.astype(np.int16) - other), 255).astype(np.uint8)


def _within(images: Mapping[str, np.ndarray], quality: int, room: float) -> dict[str, str]:
    """Name -> data URI, or nothing where the room is too small, which is found out as early as can be."""
    uris = {}
    for name, image in images.items():
        uris[name] = _uri(image, '.webp', (cv2.IMWRITE_WEBP_QUALITY, quality))
        room -= len(uris[name])
        if room < 0:
            return {}
    return uris


def _uri(image: np.ndarray, ending: str, parameters: tuple[int, ...]) -> str:
    content = encode(np.ascontiguousarray(image[..., ::-1]), ending, parameters)
    return f'data:image/{ending[1:]};base64,{base64.b64encode(content).decode()}'
