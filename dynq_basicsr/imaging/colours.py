"""Colours, grey and transparency through networks of three channels or of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from dynq_basicsr.imaging.arrays import holding, levels_of, white_of
from dynq_basicsr.imaging.bicubic import enlarge
from dynq_basicsr.imaging.complexity import LUMA
from dynq_basicsr.imaging.patch_grid import Box, Span, TilingOptions, tile_boxes
from dynq_basicsr.imaging.pictures import Picture, as_picture

# Y of BT.601, studio range, 16..235 of 255: what networks of one channel are trained on.
STUDIO_LUMA, BLACK = (65.481, 128.553, 24.966), 16
# A grey step of 1 in R, G and B is one of 219 / 255 in that Y.
RGB_PER_LUMA = 255 / 219
_PART = 128  # side of what is enlarged at once, LR pixels


@dataclass(frozen=True)
class Upscaler:
    """A network as a picture meets it.

    Attributes:
        channels: Of the images that it takes and gives: 3 (RGB) or 1 (Y, or grey).
        scale: Enlargement of the sides.
        run: (H, W, channels), uint8, uint16 or float in [0, 1], and the largest value of the result -> (scale * H,
            scale * W, channels), whole numbers.
        strips: As ``run``, but yields the result's rows, as many at a time as it likes, multiples of ``scale``.
    """

    channels: int
    scale: int
    run: Callable[[np.ndarray, int], np.ndarray]
    strips: Callable[[np.ndarray, int], Iterable[np.ndarray]] | None = None


def upscale_image(image: np.ndarray | str | os.PathLike[str], upscaler: Upscaler) -> np.ndarray:
    """Super-resolve what Python gives.

    Args:
        image: See ``as_picture``.
        upscaler: The network.

    Returns:
        Of the same type and as many channels, ``scale`` times as high and wide.

    Raises:
        DynqError: If it is no image, or the network fails.
    """
    picture = as_picture(image)
    kind, levels = picture.colour.dtype, levels_of(picture.colour.dtype)
    result = upscale_picture(picture, upscaler, levels).colour
    if result.dtype != kind:
        result = (result / np.float64(levels)).astype(kind)
    flat = result.shape[2] == 1 and getattr(image, 'ndim', 2) == 2
    return result[..., 0] if flat else result


def upscale_picture(picture: Picture, upscaler: Upscaler, levels: int) -> Picture:
    """Super-resolve a picture; its transparency is enlarged bicubically.

    A grey picture goes through a network of colours as three equal channels, and comes out grey. Of a picture with
    colours, a network of one channel gets Y (see ``luma_of``); Cb and Cr are enlarged bicubically.

    Args:
        picture: What to enlarge.
        upscaler: The network.
        levels: The largest value of the result, as 255.

    Returns:
        Whole numbers from 0 to ``levels``; what the picture's file says besides stays.

    Raises:
        DynqError: If the network fails.
    """
    whole, = upscale_strips(picture, replace(upscaler, strips=lambda *given: [upscaler.run(*given)]), levels)
    return whole


def upscale_strips(picture: Picture, upscaler: Upscaler, levels: int) -> Iterator[Picture]:
    """Super-resolve a picture whose result need not fit into memory.

    Args:
        picture: See ``upscale_picture``.
        upscaler: The network; its ``strips`` are asked for.
        levels: See ``upscale_picture``.

    Yields:
        Rows of what ``upscale_picture`` gives, from above.
    """
    colour, channels, scale = picture.colour, upscaler.channels, upscaler.scale
    luma_only, top = channels == 1 and colour.shape[2] == 3, 0
    pixels, fine = as_channels(colour, channels), max(levels, 65535) if luma_only else levels
    for strip in upscaler.strips(pixels, fine):
        rows = top, top + len(strip) // scale
        if luma_only:
            strip = _with_chroma(strip, fine, colour, pixels, rows, scale, levels)
        elif colour.shape[2] == 1 and channels == 3:
            strip = to_grey(strip)
        alpha = None if picture.alpha is None else _enlarge_alpha(picture.alpha, rows, scale, levels)
        yield Picture(strip, alpha, picture.metadata)
        top = rows[1]


def as_channels(colour: np.ndarray, channels: int) -> np.ndarray:
    """What a network of so many channels gets of an image (H, W, C): three equal ones of grey, or Y of colours."""
    if colour.shape[2] == channels:
        return colour
    return luma_of(colour) if channels == 1 else np.broadcast_to(colour, (*colour.shape[:2], channels))


def luma_of(colour: np.ndarray) -> np.ndarray:
    """Y of BT.601, studio range, as ``data.channels.luma_of``: (H, W, 3) -> (H, W, 1), float32 in [16, 235] / 255."""
    luma = np.empty((*colour.shape[:2], 1), np.float32)
    factors = np.float32(STUDIO_LUMA) / np.float32(white_of(colour.dtype))
    for row, line in zip(luma, colour, strict=True):
        row[:, 0] = (line.astype(np.float32) @ factors + np.float32(BLACK)) / np.float32(255)
    return luma


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 1), row by row: a whole image of floats would be the largest array of all."""
    grey = np.empty((*image.shape[:2], 1), image.dtype)
    for row, line in zip(grey, image, strict=True):
        row[:, 0] = np.rint(line @ np.float32(LUMA))
    return grey


def _with_chroma(
    sharp: np.ndarray, fine: int, colour: np.ndarray, luma: np.ndarray, rows: Span, scale: int, levels: int
) -> np.ndarray:
    """Y by the network, up to ``fine``, Cb and Cr bicubically, for some rows of a picture.

    The conversions and the enlargement are linear, and a step in Y alone is one of equal size in R, G and B. So this is
    the bicubic enlargement of R, G and B, and what the network adds to that of Y.
    """
    white, result = np.float32(white_of(colour.dtype)), np.empty((*sharp.shape[:2], 3), holding(levels))
    for box, place in _parts(colour, rows, scale):
        detail = sharp[place].transpose(2, 0, 1) / np.float32(fine) - enlarge(luma, box, scale)
        part = enlarge(colour, box, scale) / white + np.float32(RGB_PER_LUMA) * detail
        result[place] = _rounded(part, levels).transpose(1, 2, 0)
    return result


def _enlarge_alpha(alpha: np.ndarray, rows: Span, scale: int, levels: int) -> np.ndarray:
    result = np.empty((scale * (rows[1] - rows[0]), scale * alpha.shape[1], 1), holding(levels))
    for box, place in _parts(alpha, rows, scale):
        part = enlarge(alpha, box, scale) / np.float32(white_of(alpha.dtype))
        result[place] = _rounded(part, levels).transpose(1, 2, 0)
    return result


def _rounded(part: np.ndarray, levels: int) -> np.ndarray:
    """Values in about [0, 1] as whole numbers from 0 to ``levels``."""
    return np.rint(np.clip(part, 0, 1) * np.float32(levels))


def _parts(image: np.ndarray, rows: Span, scale: int) -> Iterator[tuple[Box, tuple[slice, slice]]]:
    """Parts of some rows of an image that are enlarged at once, and where they go among the enlarged rows."""
    start, end = rows
    for top, left, bottom, right in tile_boxes(end - start, image.shape[1], TilingOptions(_PART)):
        place = slice(scale * top, scale * bottom), slice(scale * left, scale * right)
        yield (start + top, left, start + bottom, right), place
