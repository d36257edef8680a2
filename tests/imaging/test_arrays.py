"""White, and how fine results are, for every type of array."""

import numpy as np
import pytest

from dynq_basicsr.imaging.arrays import FLOAT_LEVELS, cut, holding, levels_of, white_of


@pytest.mark.parametrize(
    ('kind', 'white', 'levels'),
    [(np.uint8, 255, 255), (np.uint16, 65535, 65535), (np.float32, 1, FLOAT_LEVELS), (np.float64, 1, FLOAT_LEVELS)],
)
def test_white_and_levels(kind, white, levels):
    image = np.full((3, 5, 1), white, kind)
    assert (white_of(image.dtype), levels_of(image.dtype)) == (white, levels)
    assert cut(image, (1, 0, 3, 4)).shape == (1, 2, 4) and (cut(image, (1, 0, 3, 4)) == 1).all()


def test_every_level_of_a_float_is_told_from_the_next():
    levels = np.arange(FLOAT_LEVELS - 1000, FLOAT_LEVELS + 1)
    values = np.float32(levels / np.float64(FLOAT_LEVELS))
    np.testing.assert_array_equal(np.rint(values * np.float32(FLOAT_LEVELS)), levels)


@pytest.mark.parametrize(
    ('most', 'kind'), [(255, np.uint8), (256, np.uint16), (2**32 - 1, np.uint32), (2**32, np.uint64)]
)
def test_the_smallest_type_that_holds(most, kind):
    assert holding(most) is kind
