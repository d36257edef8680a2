"""Which pixels lie under a kernel, computed in the graph for whatever size the image has."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from dynq_basicsr.export.graph import Writer


class PixelIndex:
    """Writes index tensors for ``Gather``; layers of one resolution and kernel share one.

    Args:
        writer: Where to.
        image: Name of the image (N, C, H, W), whose size is that of resolution 1.
    """

    def __init__(self, writer: Writer, image: str) -> None:
        self.writer = writer
        self._shape = writer.op('Shape', image)
        self._sides: dict[tuple[int, int], tuple[str, str, str]] = {}
        self._known: dict[tuple, str] = {}

    def of(self, resolution: int, taps: tuple[int, int], dilation: tuple[int, int], joined: int = 1) -> str:
        """Index of the pixels around each pixel, rows of the kernel first.

        Args:
            resolution: How many times the image's.
            taps: Height and width of the kernel, around its middle.
            dilation: Distance of taps, pixels.
            joined: How many pixels side by side count as one, a divisor of the resolution.

        Returns:
            Name of the index (N, H, W, taps) of the pixels of a padded image, (N * (H + 2 v) * (W + 2 h), C), one a
            row, where the kernel reaches v pixels beyond the image above and below, h to the left and right.
        """
        key = resolution, taps, dilation, joined
        if key not in self._known:
            self._known[key] = self._write(*key)
        return self._known[key]

    def bordered(
        self, pixels: str, taps: tuple[int, int], dilation: tuple[int, int], channels: int, border: str
    ) -> str:
        """The padded image that an index is of.

        Args:
            pixels: Name of the image (N, H, W, C).
            taps: See ``of``, and so the next.
            dilation: Distance of taps.
            channels: C.
            border: Name of the value of what lies outside of the image.

        Returns:
            Name of its pixels, one a row.
        """
        op, constant = self.writer.op, self.writer.constant
        sides = constant(np.array(2 * [0, *_margins(taps, dilation), 0]))
        return op('Reshape', op('Pad', pixels, sides, border), constant(np.array([-1, channels])))

    def shape_at(self, resolution: int, channels: int) -> str:
        """Name of the shape (N, H, W, channels), int64, of an image of so many times the resolution."""
        op, constant = self.writer.op, self.writer.constant
        sides = op('Gather', self._shape, constant(np.array([0, 2, 3])))
        sides = op('Mul', sides, constant(np.array([1, resolution, resolution])))
        return op('Concat', sides, constant(np.array([channels])), axis=0)

    def _write(self, resolution: int, taps: tuple[int, int], dilation: tuple[int, int], joined: int) -> str:
        op, constant = self.writer.op, self.writer.constant
        samples, height, width = self._sides_at(resolution, joined)
        tall, wide = (op('Add', side, constant(np.int32(2 * margin)))
                      for side, margin in zip((height, width), _margins(taps, dilation), strict=True))  # fmt: skip
        steps = [np.arange(number) * spread for number, spread in zip(taps, dilation, strict=True)]
        down, right = (one.flatten().astype(np.int32) for one in np.meshgrid(*steps, indexing='ij'))
        under = op('Add', op('Mul', constant(down), wide), constant(right))  # (taps,), from the first of them
        under = op('Add', op('Unsqueeze', self._count(width), constant(np.array([1]))), under)  # (W, taps)
        first = op('Unsqueeze', op('Mul', self._count(samples), tall), constant(np.array([1])))
        lines = op('Mul', op('Add', first, self._count(height)), wide)  # (N, H)
        # one large sum, of whole lines and one number each: ONNX Runtime adds short spans slowly
        return op('Add', op('Unsqueeze', lines, constant(np.array([2, 3]))), under)

    def _sides_at(self, resolution: int, joined: int) -> tuple[str, str, str]:
        """N, H and W as scalars."""
        key = resolution, joined
        if key not in self._sides:
            op, constant = self.writer.op, self.writer.constant
            shape = op('Mul', self._shape, constant(np.array([1, 1, resolution, resolution // joined])))
            shape = op('Cast', shape, to=TensorProto.INT32)
            self._sides[key] = tuple(op('Gather', shape, constant(np.int64(axis))) for axis in (0, 2, 3))
        return self._sides[key]

    def _count(self, stop: str) -> str:
        """0, 1, ... below ``stop``."""
        constant = self.writer.constant
        return self.writer.op('Range', constant(np.int32(0)), stop, constant(np.int32(1)))


def _margins(taps: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """How many pixels a kernel reaches beyond the image, above as below and left as right."""
    return taps[0] // 2 * dilation[0], taps[1] // 2 * dilation[1]
