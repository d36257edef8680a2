"""Bicubic enlargement against BasicSR's imresize, whole and in parts."""

import numpy as np
import pytest

from dynq_basicsr.imaging.bicubic import enlarge


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_it_is_matlabs_kernel(photo, scale):
    from basicsr.utils.matlab_functions import imresize

    image = photo(17, 23)
    expected = imresize(image.astype(np.float64) / 255, scale) * 255
    found = enlarge(image, (0, 0, 17, 23), scale).transpose(1, 2, 0)
    assert found.shape == (17 * scale, 23 * scale, 3)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize('box', [(0, 0, 5, 4), (5, 3, 12, 23), (16, 22, 17, 23)])
def test_parts_are_parts_of_the_whole(photo, box):
    image = photo(17, 23)
    whole = enlarge(image, (0, 0, 17, 23), 3)
    top, left, bottom, right = (3 * side for side in box)
    np.testing.assert_allclose(enlarge(image, box, 3), whole[:, top:bottom, left:right], atol=1e-3)


@pytest.mark.parametrize('shape', [(1, 1, 1), (1, 7, 3)])
def test_tiny_images(shape):
    np.testing.assert_allclose(enlarge(np.full(shape, 77, np.uint8), (0, 0, *shape[:2]), 4), 77, rtol=1e-6)
