"""Where patches lie; shared by evaluation in PyTorch and by the runtime, so it imports neither torch nor BasicSR."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields

from dynq_basicsr.errors import DynqError, check_number, shown

Box = tuple[int, int, int, int]  # top, left, bottom, right in LR pixels
Span = tuple[int, int]  # start, end of a side in LR pixels


@dataclass(frozen=True)
class TilingOptions:
    """The ``patch_*`` options of an option file's ``val`` section.

    Attributes:
        patch_size: Side of a patch, LR pixels; None: whole images.
        patch_step: Distance between patches, LR pixels; below ``patch_size``, patches overlap.
        patch_batch: Patches of one size that run together.
        patch_merge: ``average`` (AdaBM) or ``split`` overlaps in the middle (CADyQ, Granular-DQ).
    """

    patch_size: int | None = 96
    patch_step: int | None = None
    patch_batch: int = 4
    patch_merge: str = 'average'

    def __post_init__(self) -> None:
        for key in ('patch_size', 'patch_step', 'patch_batch'):
            value = getattr(self, key)
            if value is not None or key == 'patch_batch':
                check_number(f'val.{key}', value, 1, whole=True)
        if self.patch_merge not in ('average', 'split'):
            raise DynqError(f'val.patch_merge: must be average or split, not {shown(self.patch_merge)}.')
        if self.patch_size is not None and self.step > self.patch_size:
            raise DynqError(f'val.patch_step: {self.patch_step} leaves gaps between patches of {self.patch_size}.')

    @property
    def step(self) -> int | None:
        """Distance between patches; patches touch where none is given."""
        return self.patch_step or self.patch_size

    @property
    def overlap(self) -> int:
        """LR pixels that neighbouring patches share."""
        return 0 if self.patch_size is None else self.patch_size - self.step

    @classmethod
    def from_val(cls, val: Mapping) -> TilingOptions:
        """Pick the options out of the ``val`` section."""
        return cls(**{item.name: val[item.name] for item in fields(cls) if item.name in val})


def tile_spans(length: int, options: TilingOptions) -> list[Span]:
    """Cover one side of an image; the last span extends to its end."""
    if options.patch_size is None:
        return [(0, length)]
    starts = range(0, max(length - options.patch_size, 0) + 1, options.step)
    return [(start, length if start == starts[-1] else start + options.patch_size) for start in starts]


def tile_boxes(height: int, width: int, options: TilingOptions) -> list[Box]:
    """Cover an image with patches, row by row; the last of a row or column extends to the border.

    So patches measure ``patch_size`` to ``patch_size + step - 1`` a side, as in AdaBM's published code, and an image
    smaller than a patch is one patch.
    """
    rows, columns = tile_spans(height, options), tile_spans(width, options)
    return [(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def kept_span(span: Span, length: int, options: TilingOptions) -> Span:
    """The part of a span whose result is used: all of it, or up to the middle of each overlap.

    Args:
        span: One of ``tile_spans``.
        length: Of the image's side.
        options: How overlaps merge.
    """
    start, end = span
    if options.patch_merge == 'average' or not options.overlap:
        return span
    near = options.overlap // 2
    return start + near if start else 0, end - (options.overlap - near) if end < length else end


def count_covers(spans: Iterable[Span]) -> list[int]:
    """How many spans lie over each position of a line."""
    spans = list(spans)
    counts = [0] * max(end for _, end in spans)
    for start, end in spans:
        for position in range(start, end):
            counts[position] += 1
    return counts
