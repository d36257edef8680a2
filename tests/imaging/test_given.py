"""What Python programs hold as a picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.given import as_array
from dynq_basicsr.imaging.pictures import as_picture

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)


def test_arrays_stay():
    assert as_array(PHOTO) is PHOTO


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'P', 'L', 'LA', '1', 'CMYK', 'YCbCr', 'PA', 'RGBX'])
def test_images_of_pillow(mode):
    image = Image.fromarray(PHOTO).convert('L').convert(mode) if mode == 'PA' else Image.fromarray(PHOTO).convert(mode)
    grey = mode in ('L', 'LA', '1')
    expected = np.asarray(image.convert('L' if grey else 'RGB'))
    assert np.array_equal(as_array(image), expected)
    assert as_picture(image).colour.shape == (6, 5, 1 if grey else 3)


def test_deep_images_of_pillow():
    deep = PHOTO[..., 0].astype(np.uint16) * 257
    assert np.array_equal(as_picture(Image.fromarray(deep)).colour[..., 0], deep)


def test_what_is_none():
    with pytest.raises(DynqError, match=r'not a tensor; give tensor\.permute'):
        as_picture(torch.rand(3, 6, 5))
    for value in (None, 5, [1, 2], object()):
        with pytest.raises(DynqError, match='must be an array or a file, not'):
            as_picture(value)

    class Broken:
        def __array__(self, dtype=None, copy=None):
            raise ValueError('not today')

    with pytest.raises(DynqError, match="type Broken gives no array .'not today'"):
        as_picture(Broken())
