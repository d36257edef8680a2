"""Pictures as upscalers meet them: grey or coloured, with transparency or without, of 8 or 16 bits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dynq_basicsr.deploy.bicubic import enlarge
from dynq_basicsr.deploy.decide import LUMA
from dynq_basicsr.deploy.router import Router
from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.image_bytes import decode, read_facts, unreadable
from dynq_basicsr.patch_grid import TilingOptions, tile_boxes


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Attributes:
        colour: (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16.
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
    content = path.read_bytes()
    facts = read_facts(content, str(path))
    # OpenCV keeps transparency only where nothing else is asked of it, orientation included
    flag = cv2.IMREAD_UNCHANGED if facts.alpha else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    image = decode(content, flag)
    if image is None:
        raise unreadable(str(path))
    if image.dtype not in (np.uint8, np.uint16):
        raise DynqError(f'{path}: the image has {8 * image.itemsize} bits per channel; convert it to 8 or 16.')
    image = image if image.ndim == 3 else image[..., None]
    alpha = image[..., 3:] if image.shape[2] == 4 else None
    if facts.channels == 1 or image.shape[2] == 1:
        return Picture(image[..., :1], alpha)
    return Picture(cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2RGB), alpha)


def as_picture(image: np.ndarray | str | os.PathLike) -> Picture:
    """A picture from Python.

    Args:
        image: (H, W, 3) RGB or (H, W) grey, uint8 or uint16; or a file, whose transparency is left out.

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
    sound = pixels.ndim == 3 and pixels.shape[2] in (1, 3) and pixels.size
    if not sound or pixels.dtype not in (np.uint8, np.uint16):
        raise DynqError(f'an image must be (H, W, 3) or (H, W), uint8 or uint16, not {image.dtype} {image.shape}.')
    return Picture(pixels)


def upscale_picture(
    picture: Picture, router: Router, levels: int, report: Callable[[str, int], None] = lambda *what: None
) -> Picture:
    """Super-resolve a picture; its transparency is enlarged bicubically.

    A grey picture goes through a network of colours as three equal channels, and comes out grey.

    Args:
        picture: What to enlarge.
        router: The network.
        levels: The largest value of the result, 255 or 65535.
        report: See ``Router.upscale``.

    Raises:
        DynqError: If the network takes grey only and the picture has colours, or if it fails.
    """
    colour, channels = picture.colour, router.manifest.channels
    grey = colour.shape[2] == 1
    if channels == 1 and not grey:
        raise DynqError('the network takes grey images only; convert the image, or use a network of three channels.')
    if channels == 3 and grey:
        colour = np.broadcast_to(colour, (*colour.shape[:2], 3))
    result = router.upscale(colour, levels, report)
    if channels == 3 and grey:
        result = to_grey(result)
    alpha = None if picture.alpha is None else _enlarge_alpha(picture.alpha, router.manifest.scale, levels)
    return Picture(result, alpha)


def to_grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) -> (H, W, 1), row by row: a whole image of floats would be the largest array of all."""
    grey = np.empty((*image.shape[:2], 1), image.dtype)
    for row, line in zip(grey, image, strict=True):
        row[:, 0] = np.rint(line @ np.float32(LUMA))
    return grey


def _enlarge_alpha(alpha: np.ndarray, scale: int, levels: int) -> np.ndarray:
    factor = np.float32(levels / np.iinfo(alpha.dtype).max)
    kind = np.uint8 if levels <= 255 else np.uint16
    result = np.empty((scale * alpha.shape[0], scale * alpha.shape[1], 1), kind)
    for box in tile_boxes(*alpha.shape[:2], TilingOptions(128)):
        part = np.clip(enlarge(alpha, box, scale)[0] * factor, 0, levels)
        result[scale * box[0] : scale * box[2], scale * box[1] : scale * box[3], 0] = np.rint(part)
    return result
