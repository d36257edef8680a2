"""Patch-wise inference: where patches lie, and how their results become one image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from dynq_basicsr.errors import DynqError, check_number

Box = tuple[int, int, int, int]  # top, left, bottom, right in LR pixels


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
            raise DynqError(f'val.patch_merge: must be average or split, not {self.patch_merge!r}.')
        if self.patch_size is not None and self.step > self.patch_size:
            raise DynqError(f'val.patch_step: {self.patch_step} leaves gaps between patches of {self.patch_size}.')

    @property
    def step(self) -> int:
        """Distance between patches; patches touch where none is given."""
        return self.patch_step or self.patch_size

    @classmethod
    def from_val(cls, val: Mapping) -> TilingOptions:
        """Pick the options out of the ``val`` section."""
        return cls(**{item.name: val[item.name] for item in fields(cls) if item.name in val})


def tile_boxes(height: int, width: int, options: TilingOptions) -> list[Box]:
    """Cover an image with patches, row by row; the last of a row or column extends to the border.

    So patches measure ``patch_size`` to ``patch_size + step - 1`` a side, as in AdaBM's published code, and an image
    smaller than a patch is one patch.
    """
    if options.patch_size is None:
        return [(0, 0, height, width)]

    def spans(length: int) -> list[tuple[int, int]]:
        starts = range(0, max(length - options.patch_size, 0) + 1, options.step)
        return [(start, length if start == starts[-1] else start + options.patch_size) for start in starts]

    return [(top, left, bottom, right) for top, bottom in spans(height) for left, right in spans(width)]


def run_tiled(
    image: Tensor, options: TilingOptions, run: Callable[[Tensor], Tensor], report: Callable[[list[int]], None]
) -> Tensor:
    """Super-resolve one image patch by patch; patches of one size run as batches.

    Every result is rounded to 8 bits before it is merged, as the papers' code does. Beside the image and the returned
    one, memory is that of one batch of patches, however large the image is.

    Args:
        image: (1, C, H, W) in [0, 1].
        options: Where patches lie and how they merge.
        run: The network, (N, C, h, w) -> (N, C', s * h, s * w).
        report: Told the indices (into ``tile_boxes``) of each batch, after it ran.

    Returns:
        (1, C', s * H, s * W) in [0, 1], on the 8-bit grid where it was tiled.
    """
    height, width = image.shape[-2:]
    boxes = tile_boxes(height, width, options)
    if len(boxes) == 1:
        result = run(image)
        report([0])
        return result
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (top, left, bottom, right) in enumerate(boxes):
        by_size[bottom - top, right - left].append(index)
    canvas = None
    for indices in by_size.values():
        for start in range(0, len(indices), options.patch_batch):
            batch = indices[start : start + options.patch_batch]
            patches = torch.cat([image[..., t:b, le:r] for t, le, b, r in (boxes[index] for index in batch)])
            results = run(patches).clamp(0, 1).mul(255).round().div(255)
            report(batch)
            scale = results.shape[-1] // patches.shape[-1]
            if canvas is None:
                canvas = results.new_zeros(1, results.shape[1], scale * height, scale * width)
            for index, result in zip(batch, results, strict=True):
                top, left, bottom, right = _kept(boxes[index], boxes, options)
                t, le, b, r = (scale * side for side in (top, left, bottom, right))
                dt, dl = scale * (top - boxes[index][0]), scale * (left - boxes[index][1])
                canvas[..., t:b, le:r] += result[..., dt : dt + b - t, dl : dl + r - le]
    if options.patch_merge == 'average' and options.step < options.patch_size:
        _divide_by_covers(canvas, boxes, scale)
    return canvas


def _divide_by_covers(canvas: Tensor, boxes: list[Box], scale: int) -> None:
    """Divide each pixel, in place, by the number of patches that lie over it.

    Patches form a grid, so this number is that of a pixel's row times that of its column, and no map of it is needed.

    Args:
        canvas: Sums of results, (1, C, s * H, s * W).
        boxes: The grid.
        scale: s.
    """
    rows = _covers({(top, bottom) for top, _, bottom, _ in boxes})
    columns = _covers({(left, right) for _, left, _, right in boxes})
    across = canvas.new_tensor(columns).repeat_interleave(scale)
    for row, count in enumerate(rows):
        canvas[..., scale * row : scale * (row + 1), :] /= count * across


def _covers(spans: set[tuple[int, int]]) -> list[int]:
    """How many spans (start, end) lie over each position of a line."""
    counts = [0] * max(end for _, end in spans)
    for start, end in spans:
        for position in range(start, end):
            counts[position] += 1
    return counts


def _kept(box: Box, boxes: list[Box], options: TilingOptions) -> Box:
    """The part of a patch's result that is used: all of it, or up to the middle of each overlap."""
    overlap = options.patch_size - options.step
    if options.patch_merge == 'average' or not overlap:
        return box
    top, left, bottom, right = box
    last_bottom, last_right = boxes[-1][2:]
    near, far = overlap // 2, overlap - overlap // 2
    return (
        top + near if top else 0,
        left + near if left else 0,
        bottom - far if bottom < last_bottom else bottom,
        right - far if right < last_right else right,
    )
