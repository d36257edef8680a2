"""Results keep colour profile, resolution and EXIF, in every format, as Pillow reads them; pixels stay."""

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from dynq_basicsr.imaging.metadata import Metadata
from dynq_basicsr.imaging.picture_encoder import encode_picture, encode_png_rows, left_out
from dynq_basicsr.imaging.pictures import Picture, decode_picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
GREY = SRGB[:16] + b'GRAY' + SRGB[20:]
ENDINGS = ('.png', '.jpg', '.jpeg', '.jfif', '.webp', '.tif', '.tiff')
KINDS = {'.png': 'PNG', '.jpg': 'JPEG', '.webp': 'WEBP', '.tiff': 'TIFF'}


def noise(channels, kind='uint8'):
    most = np.iinfo(kind).max
    return np.random.default_rng(channels).integers(0, most, (40, 64, channels), kind, endpoint=True)


def camera_exif():
    """What a camera writes, upside down."""
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Orientation] = 'Käse & Co'.encode(), 3
    exif[Base.ImageWidth], exif[Base.XResolution], exif[Base.YResolution] = 64, 300.0, 300.0
    exif[IFD.Exif] = {Base.DateTimeOriginal: '2026:11:27 23:30:00', Base.ISOSpeedRatings: 200, Base.ExifImageWidth: 64,
                      Base.MakerNote: b'\1\2\3'}  # fmt: skip
    exif[IFD.GPSInfo] = {1: 'N', 2: (47.0, 30.0, 0.5)}
    return exif


def opened(content):
    image = Image.open(io.BytesIO(bytes(content)))
    image.load()
    return image


@pytest.mark.parametrize('source', KINDS)
@pytest.mark.parametrize('ending', ENDINGS)
def test_metadata_goes_from_any_format_to_any(source, ending):
    stream = io.BytesIO()
    options = {} if source == '.webp' else {'dpi': (300, 300)}
    Image.fromarray(noise(3)).save(stream, KINDS[source], exif=camera_exif().tobytes(), icc_profile=SRGB, **options)
    picture = decode_picture(stream.getvalue(), 'a')
    assert picture.metadata.dpi == pytest.approx((300, 300), rel=1e-3) and not picture.metadata.notes
    image = opened(encode_picture(picture, ending))
    assert left_out(picture, ending) == [] and image.info['icc_profile'] == SRGB
    exif = image.getexif()
    maker = 'K??se & Co' if source == '.tiff' else 'Käse & Co'  # Pillow's TIFF writes ASCII
    assert exif[Base.Make].encode('latin-1').decode() == maker
    assert Base.Orientation not in exif
    taken = exif.get_ifd(IFD.Exif)
    assert taken[Base.DateTimeOriginal] == '2026:11:27 23:30:00' and taken[Base.ISOSpeedRatings] == 200
    assert taken[Base.MakerNote] == b'\1\2\3' and Base.ExifImageWidth not in taken
    assert exif.get_ifd(IFD.GPSInfo)[2] == (47.0, 30.0, 0.5)
    again = decode_picture(bytes(encode_picture(picture, ending)), 'a')
    assert again.metadata.dpi == pytest.approx((300, 300), rel=1e-3)
    assert again.metadata.exif == picture.metadata.exif
    if ending not in ('.jpg', '.jpeg', '.jfif'):
        np.testing.assert_array_equal(again.colour, picture.colour)


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('alpha', [False, True])
@pytest.mark.parametrize('ending, kind', [
    ('.png', 'uint8'), ('.png', 'uint16'), ('.tiff', 'uint8'), ('.tiff', 'uint16'), ('.webp', 'uint8'),
])  # fmt: skip
def test_pixels_and_transparency_survive(channels, alpha, ending, kind):
    metadata = Metadata(GREY if channels == 1 else SRGB, (72.0, 144.0), decode_exif())
    picture = Picture(noise(channels, kind), noise(2, kind)[..., :1] if alpha else None, metadata)
    content = bytes(encode_picture(picture, ending))
    again = decode_picture(content, 'a')
    np.testing.assert_array_equal(again.colour, np.broadcast_to(picture.colour, again.colour.shape), strict=True)
    assert (again.alpha is None) == (not alpha)
    if alpha:
        np.testing.assert_array_equal(again.alpha, picture.alpha, strict=True)
    assert again.metadata.dpi == pytest.approx((72, 144), rel=1e-3)
    kept = channels == 3 or not alpha and ending != '.webp'
    assert again.metadata.icc == (metadata.icc if kept else None)
    assert left_out(picture, ending) == ([] if kept else ['colour profile'])
    if ending == '.tiff':
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            assert [int(one) for one in file.pages[0].extrasamples] == ([2] if alpha else [])
            assert file.pages[0].shape[:2] == picture.colour.shape[:2]


def decode_exif():
    stream = io.BytesIO()
    Image.fromarray(noise(3)).save(stream, 'PNG', exif=camera_exif())
    return decode_picture(stream.getvalue(), 'a').metadata.exif


@pytest.mark.parametrize('kind', ['uint8', 'uint16'])
@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('alpha', [False, True])
def test_a_png_in_rows_is_the_same_picture(kind, channels, alpha):
    metadata = Metadata(GREY if channels == 1 else SRGB, (72.0, 144.0), decode_exif())
    picture = Picture(noise(channels, kind), noise(2, kind)[..., :1] if alpha else None, metadata)
    strips = [Picture(picture.colour[top:end], picture.alpha[top:end] if alpha else None, metadata)
              for top, end in ((0, 1), (1, 30), (30, 40))]  # fmt: skip
    content = b''.join(encode_png_rows(strips, 40))
    found, whole = decode_picture(content, 'a'), decode_picture(bytes(encode_picture(picture, '.png')), 'a')
    np.testing.assert_array_equal(found.colour, whole.colour, strict=True)
    assert found.metadata == whole.metadata and (found.alpha is None) == (not alpha)
    if alpha:
        np.testing.assert_array_equal(found.alpha, whole.alpha, strict=True)
    one, other = (cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
                  for file in (content, encode_picture(picture, '.png')))  # fmt: skip
    np.testing.assert_array_equal(one, other, strict=True)


def test_formats_that_hold_less_say_so():
    picture = Picture(noise(3), None, Metadata(SRGB, (300.0, 300.0), decode_exif()))
    assert left_out(picture, '.bmp') == ['colour profile', 'EXIF']
    assert opened(encode_picture(picture, '.bmp')).info['dpi'] == pytest.approx((300, 300), rel=1e-3)
    long = Picture(noise(3), None, Metadata(None, None, decode_exif() + bytes(70_000)))
    assert left_out(long, '.jpg') == ['EXIF'] and left_out(long, '.png') == []
    assert 'exif' not in opened(encode_picture(long, '.jpg')).info


def test_what_is_too_large_is_none():
    wide = Picture(np.zeros((1, 70_000, 3), np.uint8))
    assert encode_picture(wide, '.jpg') is None and encode_picture(wide, '.webp') is None


def test_without_metadata_nothing_is_added():
    for ending in ENDINGS:
        image = opened(encode_picture(Picture(noise(3)), ending))
        assert 'icc_profile' not in image.info and 'exif' not in image.info


@pytest.mark.parametrize('ending', ENDINGS)
def test_resolution_alone(ending):
    content = bytes(encode_picture(Picture(noise(3), None, Metadata(dpi=(96.0, 96.0))), ending))
    assert decode_picture(content, 'a').metadata.dpi == pytest.approx((96, 96), rel=1e-3)
