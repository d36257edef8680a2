"""Colour profile, resolution and EXIF of damaged and odd files: a note at most."""

import io

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from dynq_basicsr.imaging.pictures import decode_picture


def saved(kind='JPEG', **options):
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 9, 3), 77, np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


def test_plain_files_have_none():
    metadata = decode_picture(saved('PNG'), 'a').metadata
    assert (metadata.icc, metadata.dpi, metadata.exif, metadata.notes) == (None, None, b'', ())


@pytest.mark.parametrize('seed', range(20))
def test_damaged_exif_costs_no_picture(seed):
    exif = Image.Exif()
    exif[Base.Make], exif[Base.Orientation] = 'x' * 40, 1
    block = bytearray(exif.tobytes())
    random = np.random.default_rng(seed)
    block[10:] = random.integers(0, 255, len(block) - 10, np.uint8).tobytes()
    picture = decode_picture(saved(exif=bytes(block)), 'a')
    assert sorted(picture.colour.shape) == [3, 8, 9]


def test_exif_that_cannot_be_read_is_said():
    exif = Image.Exif()
    exif[Base.Make] = 'x' * 40
    block = exif.tobytes()
    metadata = decode_picture(saved(exif=block[:10] + b'\xff\xff\xff\0' + block[14:]), 'a').metadata
    assert metadata.exif == b'' and metadata.notes == ('its EXIF is damaged and left out',)


@pytest.mark.parametrize('unit, expected', [(2, 118.0), (3, 118 * 2.54), (1, None), (None, 118.0)])
def test_units_of_resolution(unit, expected):
    exif = Image.Exif()
    exif[Base.XResolution] = exif[Base.YResolution] = 118.0
    if unit is not None:
        exif[Base.ResolutionUnit] = unit
    dpi = decode_picture(saved('WEBP', exif=exif), 'a').metadata.dpi
    assert dpi == (None if expected is None else pytest.approx((expected, expected)))
