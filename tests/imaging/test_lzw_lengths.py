"""Lengths of LZW strips, against what two encoders wrote."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dynq_basicsr.imaging.image_bytes import decode
from dynq_basicsr.imaging.lzw_lengths import decoded_length


def picture(shape: tuple[int, ...], sigma: float) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), sigma)


def by_pillow(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, 'TIFF', compression='tiff_lzw')
    return stream.getvalue()


def by_opencv(pixels: np.ndarray) -> bytes:
    return cv2.imencode('.tif', pixels)[1].tobytes()


def spans(tiff: bytes) -> list[tuple[int, int]]:
    with Image.open(io.BytesIO(tiff)) as image:
        return list(zip(image.tag_v2[273], image.tag_v2[279], strict=True))


@pytest.mark.parametrize('encode', [by_pillow, by_opencv])
@pytest.mark.parametrize('sigma', [0.1, 2, 30])  # few long codes to many short ones
@pytest.mark.parametrize('shape', [(1, 1, 3), (17, 23, 3), (300, 400, 3), (200, 200)])
def test_lengths_are_those_of_the_pixels(encode, sigma, shape):
    pixels = picture(shape, sigma)
    tiff = encode(pixels)
    assert sum(decoded_length(tiff[start : start + count]) for start, count in spans(tiff)) == pixels.size
    assert np.array_equal(decode(tiff, cv2.IMREAD_UNCHANGED), cv2.imdecode(np.frombuffer(tiff, np.uint8), -1))


def test_a_flipped_bit_is_seen_wherever_it_changes_a_length():
    tiff = by_pillow(picture((60, 80, 3), 3))
    (start, count), *_ = spans(tiff)
    expected, random, refused = cv2.imdecode(np.frombuffer(tiff, np.uint8), -1), np.random.default_rng(0), 0
    for place in random.integers(start, start + count, 200):
        damaged = bytearray(tiff)
        damaged[place] ^= 1 << random.integers(8)
        found = decode(bytes(damaged), cv2.IMREAD_UNCHANGED)
        refused += found is None
        assert found is None or found.shape == expected.shape
    assert refused > 80


@pytest.mark.parametrize('content', [b'', b'\x80', b'\xff' * 40])
def test_what_is_no_lzw_has_no_length(content):
    assert not decoded_length(content)
