"""Pictures of any kind, decoded for calibration."""

import cv2
import numpy as np
import pytest
import torch

from dynq_basicsr.data.pictures import WINDOW, read_any, window
from dynq_basicsr.errors import DynqError


def encoded(pixels, ending='.png'):
    return cv2.imencode(ending, pixels)[1].tobytes()


@pytest.fixture
def photo(photos):
    """(H, W, 3) uint8, RGB."""
    return photos['coffee']


@pytest.mark.parametrize('kind', ['plain', 'alpha', 'deep', 'deep alpha', 'tiff', 'bmp', 'webp'])
def test_colours(kind, photo):
    bgr = np.ascontiguousarray(photo[..., ::-1])
    alpha = np.dstack([bgr, 255 - bgr[..., :1]])
    contents = {
        'plain': lambda: encoded(bgr), 'alpha': lambda: encoded(alpha), 'tiff': lambda: encoded(bgr, '.tiff'),
        'deep': lambda: encoded(bgr.astype(np.uint16) * 257), 'bmp': lambda: encoded(bgr, '.bmp'),
        'deep alpha': lambda: encoded(alpha.astype(np.uint16) * 257),
        'webp': lambda: cv2.imencode('.webp', bgr, [cv2.IMWRITE_WEBP_QUALITY, 101])[1].tobytes(),
    }  # fmt: skip
    image = read_any(contents[kind](), 'a picture')
    assert image.dtype == torch.uint8 and np.array_equal(image.permute(1, 2, 0).numpy(), photo)


@pytest.mark.parametrize('deep', [False, True])
def test_grey(deep, photo):
    grey = photo[..., 0]
    image = read_any(encoded(grey.astype(np.uint16) * 257 if deep else grey), 'a picture')
    assert image.shape[0] == 1 and np.array_equal(image[0].numpy(), grey)


def test_what_does_not_decode_is_named():
    with pytest.raises(DynqError, match='^holiday.png: '):
        read_any(b'no picture', 'holiday.png')


def test_a_window_is_a_function_of_image_and_seed():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, WINDOW + 500), dtype=np.uint8))
    assert window(image, 1).shape == (3, 40, WINDOW)
    assert torch.equal(window(image, 1), window(image.clone(), 1))
    starts = {seed: int((image[0, 0].unfold(0, WINDOW, 1) == window(image, seed)[0, 0]).all(1).nonzero()[0])
              for seed in range(4)}  # fmt: skip
    assert len(set(starts.values())) == 4
    other = image.clone()
    other[0, 0, 0] ^= 1
    assert not torch.equal(window(other, 1)[:, 1:], window(image, 1)[:, 1:])
    small = image[..., :WINDOW]
    assert window(small, 1) is small
