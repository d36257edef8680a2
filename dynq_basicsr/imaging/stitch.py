"""How results of patches become one image: integer weights, so that the order of patches does not matter."""

from __future__ import annotations

import numpy as np

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.arrays import holding
from dynq_basicsr.imaging.patch_grid import Box, Span, TilingOptions, count_covers, kept_span, tile_spans

RAMP = 16  # weights of a feathered overlap run from 0 to 16; 255 * 16 * 16 fits in 16 bits
STRIP = 256  # rows that are divided at once


class Canvas:
    """Takes results of patches at their places, in any order, and merges overlaps.

    Every result is rounded to whole levels first, as evaluation in PyTorch does. Weights of rows and columns are small
    integers whose sum is known at each place, so sums are exact. Without overlaps the canvas is the image itself.

    Args:
        height: Of the LR image.
        width: Of the LR image.
        channels: Of the result.
        scale: Enlargement.
        tiling: Where patches lie and how they merge.
        feather: LR pixels over which neighbours fade into each other, around the middle of their overlap; takes the
            place of ``tiling.patch_merge`` and passes ``check_feather``.
        levels: The largest value of a result, as 255.
        held: Rows of the result that are held at once; None: all.
    """

    def __init__(
        self,
        height: int,
        width: int,
        channels: int,
        scale: int,
        tiling: TilingOptions,
        feather: int,
        levels: int,
        held: int | None = None,
    ) -> None:
        self._scale, self._levels = scale, levels
        self._rows, self._columns = (_Side(length, scale, tiling, feather) for length in (height, width))
        most = levels * int(self._rows.totals.max()) * int(self._columns.totals.max())
        self._top, rows = 0, min(held or scale * height, scale * height)
        self._sums = np.zeros((rows, scale * width, channels), holding(most))

    def place(self, box: Box, result: np.ndarray) -> None:
        """Add the result of a patch.

        Args:
            box: The patch, LR pixels.
            result: (C, scale * h, scale * w) in [0, 1], float32.
        """
        (rows, down), (columns, across) = self._rows.part(box[0::2]), self._columns.part(box[1::2])
        used = result[:, rows.start - self._scale * box[0] : rows.stop - self._scale * box[0],
                      columns.start - self._scale * box[1] : columns.stop - self._scale * box[1]]  # fmt: skip
        values = used * np.float32(self._levels)
        np.rint(np.clip(values, 0, self._levels, out=values), out=values)
        values = values.astype(self._sums.dtype)
        if down is not None:
            values *= down.astype(values.dtype)[:, None]
        if across is not None:
            values *= across.astype(values.dtype)
        for channel, plane in enumerate(values):
            self._sums[rows.start - self._top : rows.stop - self._top, columns, channel] += plane

    def take(self, end: int) -> np.ndarray:
        """The rows of the image that were not taken yet, up to ``end``; their place is free for those that follow.

        Args:
            end: Row of the result above which no patch that is still to come lies.

        Returns:
            (rows, scale * W, C), see ``finish``.
        """
        rows, sums = end - self._top, self._sums
        image = self._merged(sums[:rows]).copy() if self._is_image else self._merged(sums[:rows])
        sums[: len(sums) - rows] = sums[rows:]
        sums[len(sums) - rows :] = 0
        self._top = end
        return image

    def finish(self) -> np.ndarray:
        """The image, (scale * H, scale * W, C), of the smallest type that holds it; the canvas is used up."""
        return self._merged(self._sums)

    @property
    def _is_image(self) -> bool:
        return bool(self._rows.totals.max() == self._columns.totals.max() == 1)

    def _merged(self, sums: np.ndarray) -> np.ndarray:
        if self._is_image:
            return sums
        image, sums = np.empty(sums.shape, holding(self._levels)), sums.reshape(len(sums), -1)
        across = self._columns.totals.repeat(image.shape[2])  # broadcasting over few channels is slow
        rows = self._rows.totals[self._top : self._top + len(image)]
        for top in range(0, len(image), STRIP):
            totals = rows[top : top + STRIP, None] * across
            part = (sums[top : top + STRIP] + totals // 2) // totals
            image[top : top + STRIP] = part.reshape(-1, *image.shape[1:])
        return image


class _Side:
    """Weights along one side of the image.

    Attributes:
        totals: Sum of all patches' weights at each place, (scale * length,).
    """

    def __init__(self, length: int, scale: int, tiling: TilingOptions, feather: int) -> None:
        self._length, self._scale, self._tiling, self._feather = length, scale, tiling, feather
        spans = tile_spans(length, tiling)
        if len(spans) == 1:
            covers, self._feather = np.ones(length, np.uint32), 0
        elif feather:
            covers = np.full(length, RAMP, np.uint32)
        else:
            covers = np.uint32(count_covers(kept_span(span, length, tiling) for span in spans))
        self.totals = covers.repeat(scale)

    def part(self, span: Span) -> tuple[slice, np.ndarray | None]:
        """Where a patch's result is used, HR pixels, and its weights there; None: all of them 1."""
        if not self._feather:
            start, end = kept_span(span, self._length, self._tiling)
            return slice(self._scale * start, self._scale * end), None
        start, end = span
        margin = (self._tiling.overlap - self._feather) // 2  # from the overlap's start to the ramp's
        ramp = _ramp(self._scale * self._feather)
        low, high = start, end
        if start:
            low = start + margin
        if end < self._length:
            high = end - self._tiling.overlap + margin + self._feather
        weights = np.full(self._scale * (high - low), RAMP, np.uint32)
        if start:
            weights[: len(ramp)] = ramp
        if end < self._length:
            weights[-len(ramp) :] = RAMP - ramp
        return slice(self._scale * low, self._scale * high), weights


def _ramp(count: int) -> np.ndarray:
    """Weights of the later patch along a fade of ``count`` HR pixels, in 1 / RAMP."""
    return np.rint(RAMP * (np.arange(count) + 0.5) / count).astype(np.uint32)


def check_feather(feather: int, tiling: TilingOptions) -> None:
    """Refuse a fade that does not fit into the overlaps.

    Raises:
        DynqError: Names what to change.
    """
    if feather and tiling.patch_size is not None and feather > min(tiling.overlap, tiling.step):
        raise DynqError(
            f'--feather {feather}: patches of {tiling.patch_size} every {tiling.step} pixels overlap by '
            f'{tiling.overlap}; give a larger --overlap (up to half a patch) or a smaller --feather.'
        )
