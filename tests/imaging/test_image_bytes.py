"""Images from bytes to bytes: EXIF's orientation as OpenCV applies it, files of any name, harmless warnings."""

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from dynq_basicsr.atomic import NotWritten
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import decode, encode, read_size, write_image


@pytest.fixture(scope='module')
def pixels() -> np.ndarray:
    """Noise, (37, 53, 3)."""
    return np.random.default_rng(0).integers(0, 255, (37, 53, 3), np.uint8)


def jpeg(pixels: np.ndarray, mode: str = 'RGB', **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, 'JPEG', **options)
    return stream.getvalue()


def by_opencv(content: bytes, flag: int) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag)


FLAGS = (cv2.IMREAD_COLOR, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH, cv2.IMREAD_UNCHANGED, cv2.IMREAD_GRAYSCALE,
         cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)  # fmt: skip


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'BMP', 'WEBP'])
@pytest.mark.parametrize('orientation', [1, 3, 6])
def test_a_size_is_that_of_the_decoded_image(pixels, kind, orientation):
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(stream, kind, **({} if kind == 'BMP' else {'exif': exif}))
    height, width = by_opencv(stream.getvalue(), cv2.IMREAD_COLOR).shape[:2]
    assert read_size(stream.getvalue(), 'x') == (width, height)


def test_a_size_is_read_from_the_header(pixels, monkeypatch):
    contents = [jpeg(pixels), bytes(encode(pixels, '.png'))]
    monkeypatch.setattr('dynq_basicsr.imaging.image_bytes.decode', None)
    assert [read_size(content, 'x') for content in contents] == [(53, 37)] * 2


@pytest.mark.parametrize('order', ['<', '>'])
@pytest.mark.parametrize('mode', ['RGB', 'L'])
def test_orientation_and_channels_are_opencv_s(pixels, mode, order):
    for orientation in range(10):  # 0 and 9 mean nothing
        exif = Image.Exif()
        exif.endian = order
        exif[0x010F], exif[0x0112] = 'a maker of cameras', orientation
        content = jpeg(pixels, mode, exif=exif)
        for flag in FLAGS:
            np.testing.assert_array_equal(decode(content, flag), by_opencv(content, flag))


@pytest.mark.parametrize('options', [
    {'subsampling': '4:4:4'}, {'subsampling': '4:2:2'}, {'progressive': True}, {'keep_rgb': True},
    {'restart_marker_blocks': 3}, {'mode': 'CMYK'}, {'comment': b'\xff\xd9\xff\xda'},
])  # fmt: skip
def test_kinds_of_jpeg_are_opencv_s(pixels, options):
    content = jpeg(pixels, **options)
    np.testing.assert_array_equal(decode(content, cv2.IMREAD_COLOR), by_opencv(content, cv2.IMREAD_COLOR))


def test_headers_that_phones_write_are_no_damage(pixels):
    content = jpeg(pixels, quality=90)
    scan = content.rfind(b'\xff\xda\x00\x0c')
    odd = bytearray(content)
    odd[scan + 4 + 7 : scan + 4 + 10] = b'\0\0\0'  # the spectral selection of a progressive scan
    np.testing.assert_array_equal(decode(bytes(odd), cv2.IMREAD_COLOR), decode(content, cv2.IMREAD_COLOR))


@pytest.mark.parametrize('name', ['a.png', '名.png', os.fsdecode(b'caf\xe9.png'), 'a\nb.png', 'ü' * 120 + '.png'])
def test_files_of_any_name(tmp_path, pixels, name):
    path = tmp_path / 'below' / name
    write_image(path, pixels)
    np.testing.assert_array_equal(decode(path.read_bytes(), cv2.IMREAD_COLOR), pixels)
    assert [one.name for one in path.parent.iterdir()] == [name]


def test_what_a_format_cannot_hold(tmp_path):
    image = np.zeros((1, 70_000, 3), np.uint8)
    assert encode(image, '.jpg') is None and encode(image, '.txt') is None
    with pytest.raises(DynqError, match=r'a\.jpg: jpg cannot hold an image of 70000 x 1 pixels; take png'):
        write_image(tmp_path / 'a.jpg', image)
    (tmp_path / 'file').touch()
    with pytest.raises(NotWritten, match=r'a\.png: cannot be written'):
        write_image(tmp_path / 'file' / 'a.png', image)
    assert [one.name for one in tmp_path.iterdir()] == ['file']
