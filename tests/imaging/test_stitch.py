"""Merging of overlaps: exact sums, fades that add up, no order."""

import numpy as np
import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.arrays import FLOAT_LEVELS
from dynq_basicsr.imaging.patch_grid import TilingOptions, tile_boxes
from dynq_basicsr.imaging.stitch import RAMP, Canvas, check_feather


def fill(tiling, height, width, feather, levels, result_of, scale=2):
    canvas = Canvas(height, width, 1, scale, tiling, feather, levels)
    boxes = tile_boxes(height, width, tiling)
    for index in np.random.default_rng(0).permutation(len(boxes)):
        canvas.place(boxes[index], result_of(boxes[index]))
    return canvas.finish()


@pytest.mark.parametrize('levels', [255, 65535, FLOAT_LEVELS])
@pytest.mark.parametrize(
    'size, step, merge, feather',
    [(16, 16, 'average', 0), (16, 12, 'split', 0), (16, 5, 'average', 0), (16, 11, 'split', 5), (16, 8, 'average', 8)],
)
@pytest.mark.parametrize('height, width', [(41, 50), (10, 33), (5, 7), (16, 200)])
def test_a_field_of_places_comes_out_as_it_went_in(height, width, size, step, merge, feather, levels):
    truth = np.random.default_rng(1).integers(0, levels, (2 * height, 2 * width), endpoint=True)

    def cut(box):
        top, left, bottom, right = (2 * side for side in box)
        return np.float32(truth[None, top:bottom, left:right]) / np.float32(levels)

    found = fill(TilingOptions(size, step, patch_merge=merge), height, width, feather, levels, cut)
    assert found.dtype == {255: np.uint8, 65535: np.uint16, FLOAT_LEVELS: np.uint32}[levels]
    np.testing.assert_array_equal(found[..., 0], truth)


@pytest.mark.parametrize('size, step, merge, feather', [
    (16, 16, 'average', 0), (16, 12, 'split', 0), (16, 5, 'average', 0), (16, 11, 'split', 5), (16, 8, 'average', 8),
])  # fmt: skip
@pytest.mark.parametrize('height', [7, 41, 64])
def test_rows_taken_one_after_the_other_are_those_of_the_whole(size, step, merge, feather, height):
    tiling, random = TilingOptions(size, step, patch_merge=merge), np.random.default_rng(2)
    results = {box: np.float32(random.random((3, 2 * (box[2] - box[0]), 2 * (box[3] - box[1]))))
               for box in tile_boxes(height, 50, tiling)}  # fmt: skip
    tallest = 2 * max(bottom - top for top, _, bottom, _ in results)
    whole, held = (Canvas(height, 50, 3, 2, tiling, feather, 255, rows) for rows in (None, tallest))
    parts, tops = [], sorted({box[0] for box in results})
    for top, end in zip(tops, [*tops[1:], height], strict=True):
        for box, result in results.items():
            if box[0] == top:
                whole.place(box, result)
                held.place(box, result)
        parts.append(held.take(2 * end))
    np.testing.assert_array_equal(np.concatenate(parts), whole.finish(), strict=True)


def test_fades_are_ramps_around_the_middle_of_the_overlap():
    tiling = TilingOptions(16, 10)
    line = fill(tiling, 1, 26, 4, 255, lambda box: np.full((1, 2, 2 * (box[3] - box[1])), float(box[1] > 0)))[0, :, 0]
    assert (line[: 2 * 11] == 0).all() and (line[2 * 15 :] == 255).all()  # overlap 10..16, fade 11..15
    expected = np.rint(RAMP * (np.arange(8) + 0.5) / 8) / RAMP * 255
    assert np.abs(line[2 * 11 : 2 * 15] - expected).max() <= 0.5
    assert (np.diff(line.astype(int)) >= 0).all()


def test_values_beyond_the_range_are_clipped():
    found = fill(TilingOptions(None), 1, 1, 0, 255, lambda box: np.array([[[-0.2, 1.7], [0.5, 0.2]]]))
    np.testing.assert_array_equal(found[..., 0], [[0, 255], [128, 51]])


@pytest.mark.parametrize('size, step, feather', [(16, 16, 1), (16, 12, 5), (16, 4, 6)])
def test_a_fade_must_fit_into_the_overlap(size, step, feather):
    with pytest.raises(DynqError, match='--feather'):
        check_feather(feather, TilingOptions(size, step))
    check_feather(feather, TilingOptions(None))
