"""Patch-wise inference: patches of a grid run as batches, and their results become one image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.patch_grid import Box, TilingOptions, count_covers, kept_span, tile_boxes


def run_tiled(
    image: Tensor, options: TilingOptions, run: Callable[[Tensor, list[int]], Tensor], levels: int | None = 255
) -> Tensor:
    """Super-resolve one image patch by patch; patches of one size run as batches.

    Beside the image and the returned one, memory is that of one batch of patches, however large the image is.

    Args:
        image: (1, C, H, W) in [0, 1].
        options: Where patches lie and how they merge.
        run: The network, (N, C, h, w) -> (N, C', s * h, s * w); told the indices (into ``tile_boxes``) of the batch.
        levels: What white is in whole numbers, to which every result is rounded before it is merged, as the papers'
            code does; None: nothing is rounded.

    Returns:
        (1, C', s * H, s * W); in [0, 1], rounded, where it was tiled.
    """
    height, width = image.shape[-2:]
    boxes = tile_boxes(height, width, options)
    if len(boxes) == 1:
        return run(image, [0])
    by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, (top, left, bottom, right) in enumerate(boxes):
        by_size[bottom - top, right - left].append(index)
    canvas = None
    for indices in by_size.values():
        for start in range(0, len(indices), options.patch_batch):
            batch = indices[start : start + options.patch_batch]
            patches = torch.cat([image[..., t:b, le:r] for t, le, b, r in (boxes[index] for index in batch)])
            results = run(patches, batch).clamp(0, 1)
            if levels is not None:
                results = results.mul(levels).round().div(levels)
            scale = results.shape[-1] // patches.shape[-1]
            if canvas is None:
                canvas = results.new_zeros(1, results.shape[1], scale * height, scale * width)
            for index, result in zip(batch, results, strict=True):
                (top, bottom), (left, right) = (
                    kept_span(boxes[index][side::2], length, options) for side, length in ((0, height), (1, width))
                )
                t, le, b, r = (scale * side for side in (top, left, bottom, right))
                dt, dl = scale * (top - boxes[index][0]), scale * (left - boxes[index][1])
                canvas[..., t:b, le:r] += result[..., dt : dt + b - t, dl : dl + r - le]
    if options.patch_merge == 'average' and options.step < options.patch_size:
        _divide_by_covers(canvas, boxes, scale)
    return canvas


def finite(result: Tensor) -> Tensor:
    """What a network made of patches, if it is sound; rounding to 8 bits would turn infinity into white.

    Raises:
        DynqError: If it holds NaN or infinity.
    """
    if not torch.isfinite(result).all():
        raise DynqError('the result holds NaN or infinity; the checkpoint is damaged.')
    return result


def _divide_by_covers(canvas: Tensor, boxes: list[Box], scale: int) -> None:
    """Divide each pixel, in place, by the number of patches that lie over it.

    Patches form a grid, so this number is that of a pixel's row times that of its column, and no map of it is needed.

    Args:
        canvas: Sums of results, (1, C, s * H, s * W).
        boxes: The grid.
        scale: s.
    """
    rows = count_covers({(top, bottom) for top, _, bottom, _ in boxes})
    columns = count_covers({(left, right) for _, left, _, right in boxes})
    across = canvas.new_tensor(columns).repeat_interleave(scale)
    for row, count in enumerate(rows):
        canvas[..., scale * row : scale * (row + 1), :] /= count * across
