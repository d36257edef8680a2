"""What the HTML report tells of a picture: three results of it, their bits, errors and times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.arrays import white_of
from dynq_basicsr.imaging.bicubic import enlarge
from dynq_basicsr.imaging.pictures import as_picture
from dynq_basicsr.metrics.cost_metrics import TERA
from dynq_basicsr.quantization.usage import BitUsage

if TYPE_CHECKING:
    from dynq_basicsr.workflow.quantized import Quantized

BICUBIC, FLOAT, QUANTIZED, TRUTH = 'bicubic', 'float', 'quantized', 'ground truth'
WAYS = (BICUBIC, FLOAT, QUANTIZED)
SIDE = 1024  # of results, pixels; of a larger picture the middle is shown
COST_PIXELS = 1920 * 1080  # of the output that BitOPs are stated for
Box = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True)
class Shown:
    """An LR picture, or the middle of it.

    Attributes:
        name: For the reader.
        whole: (height, width) of the file, pixels.
        inside: Rows and columns of it that are shown.
        pixels: These, (H, W, 3), uint8, RGB.
    """

    name: str
    whole: tuple[int, int]
    inside: tuple[slice, slice]
    pixels: np.ndarray


@dataclass(frozen=True)
class Compared:
    """A picture, super-resolved each way.

    Attributes:
        name: See ``Shown``.
        whole: See ``Shown``.
        results: ``BICUBIC``, ``FLOAT``, ``QUANTIZED`` and perhaps ``TRUTH`` -> (sH, sW, 3), uint8, RGB.
        seconds: That the two networks took.
        usage: The bits of its patches.
        scale: The enlargement.
    """

    name: str
    whole: tuple[int, int]
    results: Mapping[str, np.ndarray]
    seconds: Mapping[str, float]
    usage: BitUsage
    scale: int

    def psnr(self, way: str, reference: str) -> float | None:
        """PSNR of a result, dB: of RGB against the float network, of luma without a border against the ground truth.

        Returns:
            None where there is nothing to compare, or a result would be compared with itself.
        """
        if way == reference or not {way, reference} <= set(self.results):
            return None
        image, other = self.results[way], self.results[reference]
        if reference != TRUTH:
            return psnr(image, other)
        from basicsr.metrics.psnr_ssim import calculate_psnr

        given = {'crop_border': self.scale, 'test_y_channel': True}
        return float(calculate_psnr(image[..., ::-1], other[..., ::-1], **given))

    def bitops(self, way: str) -> float:
        """BitOPs of ``FLOAT`` or ``QUANTIZED`` for an output of ``COST_PIXELS`` at this picture's bits, tera."""
        pixels = COST_PIXELS / self.scale**2
        parts = self.usage.bitops(pixels) if way == QUANTIZED else self.usage.cost.bitops(pixels, {})
        return sum(parts) / TERA

    def patch_errors(self) -> np.ndarray:
        """How far the quantized result is from the float one, root mean square of each patch, 0..255, (P,)."""
        squares = squared_difference(self.results[QUANTIZED], self.results[FLOAT])
        boxes = (tuple(self.scale * side for side in box) for box in self.usage.boxes)
        return np.sqrt([squares[top:bottom, left:right].mean() for top, left, bottom, right in boxes])


def psnr(image: np.ndarray, other: np.ndarray) -> float:
    """PSNR over all values of two images of 8 bits, dB; infinite where they are equal."""
    error = squared_difference(image, other).mean()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def squared_difference(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(H, W, C) of 8 bits, twice -> (H, W), the mean over channels."""
    return np.square(image.astype(np.float64) - other).mean(axis=2)


def largest_differences(image: np.ndarray, other: np.ndarray, side: int, count: int) -> list[Box]:
    """The squares in which two images differ most, none of which touches another.

    Args:
        image: (H, W, C), uint8.
        other: Likewise.
        side: Of a square, pixels; cut to the image where it is larger.
        count: How many at most; there may be less room.
    """
    height, width = image.shape[:2]
    tall, wide = min(side, height), min(side, width)
    total = np.pad(squared_difference(image, other), ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    boxes = []
    while len(boxes) < count and sums.max() >= 0:
        top, left = (int(place) for place in np.unravel_index(np.argmax(sums), sums.shape))
        boxes.append((top, left, top + tall, left + wide))
        sums[max(0, top - tall + 1) : top + tall, max(0, left - wide + 1) : left + wide] = -1
    return boxes


def read_rgb8(path: Path) -> np.ndarray:
    """Read a picture of any kind as (H, W, 3), uint8; see ``as_picture``."""
    colour = as_picture(path).colour
    if colour.dtype != np.uint8:
        colour = np.rint(colour * (255 / white_of(colour.dtype))).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], 3)))


def read_shown(path: Path, scale: int) -> Shown:
    """Read an LR picture, of a large one the middle.

    Raises:
        DynqError: If it cannot be read.
    """
    lr = read_rgb8(path)
    height, width = lr.shape[:2]
    inside = _middle(height, SIDE // scale), _middle(width, SIDE // scale)
    return Shown(path.stem, (height, width), inside, np.ascontiguousarray(lr[inside]))


def compare(
    shown: Shown, truth: Path | None, quantized: Quantized, graphs: Callable[[np.ndarray], np.ndarray] | None = None
) -> Compared:
    """Super-resolve a picture each way.

    Args:
        shown: The LR picture.
        truth: The picture that it was made from, if known; up to a remainder of the enlargement as large.
        quantized: The network.
        graphs: What gives the quantized result in its place, (H, W, 3) uint8 -> (sH, sW, 3) uint8.

    Raises:
        DynqError: If the ground truth cannot be read, or has another size.
    """
    scale = quantized.network.scale
    pixels = shown.pixels
    results, seconds = {BICUBIC: _bicubic(pixels, scale)}, {}
    results[FLOAT], seconds[FLOAT] = _timed(quantized.reference, pixels)
    if graphs is None:
        (results[QUANTIZED], usage), seconds[QUANTIZED] = _timed(quantized.upscale_with_bits, pixels)
    else:
        results[QUANTIZED], seconds[QUANTIZED] = _timed(graphs, pixels)
        usage = quantized.bits(pixels)
    if truth is not None:
        results[TRUTH] = _truth(truth, shown, scale)
    return Compared(shown.name, shown.whole, results, seconds, usage, scale)


def _timed(run: Callable, pixels: np.ndarray) -> tuple:
    began = time.perf_counter()
    result = run(pixels)
    return result, time.perf_counter() - began


def _middle(length: int, most: int) -> slice:
    start = max(length - most, 0) // 2
    return slice(start, min(start + most, length))


def _bicubic(lr: np.ndarray, scale: int) -> np.ndarray:
    enlarged = enlarge(lr, (0, 0, *lr.shape[:2]), scale)
    return np.ascontiguousarray(np.rint(enlarged.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0))


def _truth(path: Path, shown: Shown, scale: int) -> np.ndarray:
    image = read_rgb8(path)
    height, width = (scale * side for side in shown.whole)
    if not (0 <= image.shape[0] - height < scale and 0 <= image.shape[1] - width < scale):
        raise DynqError(
            f'{path}: measures {image.shape[1]}x{image.shape[0]}, but the result {width}x{height}; give ground truth '
            'that belongs to the pictures.'
        )
    rows, columns = (slice(scale * part.start, scale * part.stop) for part in shown.inside)
    return np.ascontiguousarray(image[rows, columns])
