"""Which pixels lie under a kernel, computed in the graph for whatever size the image has."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from dynq_basicsr.deploy.graph import Writer


class PixelIndex:
    """Writes index tensors for ``Gather``; layers of one resolution and kernel share one.

    Args:
        writer: Where to.
        image: Name of the image (N, C, H, W), whose size is that of resolution 1.
    """

    def __init__(self, writer: Writer, image: str) -> None:
        self.writer = writer
        self._shape = writer.op('Cast', writer.op('Shape', image), to=TensorProto.INT32)
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
            Name of the index (N, H, W, taps) of rows of a matrix (N * H * W + 1, C), whose last row is the border.
        """
        key = resolution, taps, dilation, joined
        if key not in self._known:
            self._known[key] = self._write(*key)
        return self._known[key]

    def _write(self, resolution: int, taps: tuple[int, int], dilation: tuple[int, int], joined: int) -> str:
        op, constant = self.writer.op, self.writer.constant
        samples, height, width = self._sides_at(resolution, joined)
        offsets = np.stack(np.meshgrid(*map(_around, taps, dilation), indexing='ij')).reshape(2, -1)
        rows = op('Add', self._count(height, [1, 2]), constant(offsets[0]))  # (H, 1, taps)
        columns = op('Add', self._count(width, [1]), constant(offsets[1]))  # (W, taps)
        inside = op('And', self._inside(rows, height), self._inside(columns, width))
        area = op('Mul', height, width)
        first = op('Mul', self._count(samples, [1, 2, 3]), area)
        index = op('Add', first, op('Add', op('Mul', rows, width), columns))
        return op('Where', inside, index, op('Mul', samples, area))

    def _sides_at(self, resolution: int, joined: int) -> tuple[str, str, str]:
        """N, H and W as scalars."""
        key = resolution, joined
        if key not in self._sides:
            op, constant = self.writer.op, self.writer.constant
            shape = op('Mul', self._shape, constant(np.array([1, 1, resolution, resolution // joined], np.int32)))
            self._sides[key] = tuple(op('Gather', shape, constant(np.int64(axis))) for axis in (0, 2, 3))
        return self._sides[key]

    def _count(self, stop: str, axes: list[int]) -> str:
        """0, 1, ... below ``stop``, with further axes behind."""
        op, constant = self.writer.op, self.writer.constant
        numbers = op('Range', constant(np.int32(0)), stop, constant(np.int32(1)))
        return op('Unsqueeze', numbers, constant(np.array(axes)))

    def _inside(self, places: str, side: str) -> str:
        op, constant = self.writer.op, self.writer.constant
        return op('And', op('GreaterOrEqual', places, constant(np.int32(0))), op('Less', places, side))


def _around(taps: int, dilation: int) -> np.ndarray:
    return ((np.arange(taps) - taps // 2) * dilation).astype(np.int32)
