"""Colours, grey and transparency through networks of one and of three channels, and the types of arrays."""

import numpy as np
import pytest
import torch

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.arrays import holding, white_of
from dynq_basicsr.imaging.bicubic import enlarge
from dynq_basicsr.imaging.colours import Upscaler, as_channels, luma_of, upscale_image, upscale_picture
from dynq_basicsr.imaging.pictures import Picture
from dynq_basicsr.runtime.model import FrozenModel

# BT.601, studio range: R, G, B in [0, 1] -> Y, Cb, Cr in 0..255
YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]])
OFFSETS = np.array([16, 128, 128])
KINDS = ('uint8', 'uint16', 'float32', 'float64')


def nearest(channels):
    """A network that repeats pixels."""

    def run(image, levels):
        assert image.shape[2] == channels
        values = image / white_of(image.dtype)
        return np.rint(values.repeat(2, axis=0).repeat(2, axis=1) * levels).astype(holding(levels))

    return Upscaler(channels, 2, run)


def typed(image, kind):
    """An image of uint8 in another type."""
    return (image / 255 * white_of(np.dtype(kind))).astype(kind)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', [(20, 30), (140, 300)])
def test_y_by_the_network_and_chroma_bicubically(kind, shape, photo):
    image = typed(photo(*shape), kind)
    found = upscale_image(image, nearest(1))
    assert found.dtype == kind and found.shape == (2 * shape[0], 2 * shape[1], 3)
    planes = image / white_of(image.dtype) @ YCBCR.T + OFFSETS
    larger = enlarge(planes, (0, 0, *shape), 2).transpose(1, 2, 0).astype(np.float64)
    larger[..., 0] = planes[..., 0].repeat(2, axis=0).repeat(2, axis=1)
    expected = np.clip((larger - OFFSETS) @ np.linalg.inv(YCBCR).T, 0, 1)
    step = 1 / 255 if kind == 'uint8' else 1e-4
    assert np.abs(found / white_of(found.dtype) - expected).max() < 0.6 * step


def test_luma_is_that_of_training(photo):
    basicsr_side = pytest.importorskip('dynq_basicsr.data.channels')
    image = photo(9, 11)
    expected = basicsr_side.luma_of(torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))[None])[0, 0].numpy()
    np.testing.assert_allclose(luma_of(image)[..., 0], expected, rtol=0, atol=2e-7)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('channels', [1, 3])
def test_types_and_shapes_stay(kind, channels, photo):
    colour = typed(photo(8, 9), kind)
    for image, shape in ((colour, (16, 18, 3)), (colour[..., 0], (16, 18)), (colour[..., :1], (16, 18, 1))):
        found = upscale_image(image, nearest(channels))
        assert found.dtype == kind and found.shape == shape
    if channels == 3:
        bound = 0 if kind.startswith('uint') else 6e-8
        difference = upscale_image(colour, nearest(3)) - colour.repeat(2, axis=0).repeat(2, axis=1).astype(np.float64)
        assert np.abs(difference).max() <= bound


def test_grey_goes_through_colours_as_grey(photo):
    grey = photo(8, 9)[..., :1]
    assert as_channels(grey, 3).shape == (8, 9, 3) and as_channels(grey, 1) is grey
    np.testing.assert_array_equal(upscale_image(grey, nearest(3)), upscale_image(grey, nearest(1)))


@pytest.mark.parametrize('channels', [1, 3])
def test_transparency_goes_beside(channels, photo):
    alpha = np.full((8, 9, 1), 200, np.uint8)
    found = upscale_picture(Picture(photo(8, 9), alpha), nearest(channels), 255)
    assert (found.alpha == 200).all() and found.alpha.dtype == np.uint8
    np.testing.assert_array_equal(found.colour, upscale_picture(Picture(photo(8, 9)), nearest(channels), 255).colour)


@pytest.mark.parametrize('channels', [1, 3])
def test_a_model_folder_keeps_types(channels, make_model, photo):
    frozen = FrozenModel(make_model(channels=channels).folder, threads=1)
    assert (frozen.channels, frozen.scale) == (channels, 2)
    image = np.random.default_rng(0).integers(0, 65535, (30, 50, 3)).astype(np.uint16)
    for given, step in ((image // 257, 1 / 255), (image, 1 / 65535)):
        whole = given.astype(np.uint8 if step == 1 / 255 else np.uint16)
        found, exact = frozen(whole), frozen(whole * np.float32(step))
        assert (found.dtype, exact.dtype) == (whole.dtype, np.float32) and found.shape == exact.shape == (60, 100, 3)
        assert np.abs(found * step - exact).max() < 1.2 * step  # in Y, a step of 16 bits is one of 1.16 in R, G and B


@pytest.mark.parametrize(
    ('image', 'told'),
    [
        (np.full((4, 4, 3), 2.0), r'must lie in \[0, 1\]'),
        (np.full((4, 4), np.nan), r'must lie in \[0, 1\]'),
        (np.zeros((4, 4, 3), np.int64), 'not int64'),
        (np.zeros((4, 4, 2), np.uint8), 'must be'),
        (np.zeros((0, 4, 3), np.uint8), 'must be'),
    ],
)
def test_what_is_no_image(image, told):
    with pytest.raises(DynqError, match=told):
        upscale_image(image, nearest(3))
