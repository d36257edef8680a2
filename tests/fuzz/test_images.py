"""Damaged images: none, or the same pixels, as far as the format can tell; and never anything but a sentence."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random

import cv2
import numpy as np
import pytest
from PIL import Image

from dynq_basicsr.data.decode import decode_rgb8
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import decode
from tests.fuzz.mutations import cut, cut_with_tail, damaged, drop, flip_bit, insert, set_byte, swap, zero_block


@pytest.fixture(scope='module')
def texture() -> np.ndarray:
    """A picture with detail everywhere, (60, 80, 3): no stretch of its bytes says nothing."""
    random = np.random.default_rng(0)
    noise = cv2.resize(random.normal(0, 60, (30, 40, 3)), (80, 60), interpolation=cv2.INTER_CUBIC)
    return np.clip(120 + noise + random.normal(0, 6, noise.shape), 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


FORMATS: dict[str, tuple[str, dict]] = {
    'png': ('PNG', {}),
    'jpeg': ('JPEG', {'quality': 90}),
    'progressive jpeg': ('JPEG', {'progressive': True}),
    'jpeg with restarts': ('JPEG', {'restart_marker_rows': 1}),
    'bmp': ('BMP', {}),
    'tiff': ('TIFF', {}),
    'deflated tiff': ('TIFF', {'compression': 'tiff_adobe_deflate'}),
    'lzw tiff': ('TIFF', {'compression': 'tiff_lzw'}),
    'webp': ('WEBP', {'quality': 90}),
    'lossless webp': ('WEBP', {'lossless': True}),
}


def outcomes(whole: bytes, seeds: range, kinds: tuple[Callable, ...]) -> tuple[int, int]:
    """How many damaged copies are refused, and how many decode to other pixels."""
    expected, refused, other = decode(whole, cv2.IMREAD_COLOR), 0, 0
    for case in damaged(whole, seeds, kinds):
        found = decode(case, cv2.IMREAD_COLOR)
        if found is None:
            refused += 1
        else:
            other += not np.array_equal(found, expected)
    return refused, other


@pytest.mark.parametrize('kind', FORMATS)
def test_what_is_cut_off_is_refused(texture, kind):
    name, options = FORMATS[kind]
    refused, other = outcomes(encoded(texture, name, **options), range(150), (cut,))
    assert other == 0 and refused > 140


def test_no_damage_of_a_png_passes(texture):
    kinds = (flip_bit, set_byte, zero_block, cut_with_tail, drop, insert, swap)
    refused, other = outcomes(encoded(texture, 'PNG'), range(1400), kinds)
    assert other == 0 and refused > 1300


def test_no_damage_of_deflated_pixels_passes(texture):
    whole = encoded(texture, 'TIFF', compression='tiff_adobe_deflate')
    expected, random = decode(whole, cv2.IMREAD_COLOR), Random(0)
    with Image.open(io.BytesIO(whole)) as image:
        spans = list(zip(image.tag_v2[273], image.tag_v2[279], strict=True))
    for offset, count in spans * 100:
        place = offset + random.randrange(count)
        found = decode(whole[:place] + bytes([whole[place] ^ 1 << random.randrange(8)]) + whole[place + 1 :], 1)
        assert found is None or np.array_equal(found, expected)


@pytest.mark.parametrize('kind', ['jpeg', 'progressive jpeg', 'jpeg with restarts'])
def test_lost_sectors_and_foreign_tails_of_a_jpeg_are_refused(texture, kind):
    name, options = FORMATS[kind]
    whole = encoded(np.tile(texture, (8, 8, 1)), name, **options)
    start = whole.rfind(b'\xff\xda', 0, 2000) + 20

    def sector(content: bytes, random: Random) -> bytes:
        return content[:start] + zero_block(content[start:-2], random, 4096) + content[-2:]

    def tail(content: bytes, random: Random) -> bytes:
        place = random.randrange(start, len(content) - 300)
        return content[:place] + random.randbytes(200).replace(b'\xff', b'') + b'\xff\xd9'

    assert len(whole) > 20_000
    for change in (sector, tail):
        refused, other = outcomes(whole, range(60), (change,))
        # zeros in a scan that refines the one before are as good as any bits, now and then
        assert other <= (3 if kind == 'progressive jpeg' and change is sector else 0) and refused + other == 60


@pytest.mark.parametrize('kind', FORMATS)
def test_any_damage_ends_in_a_sentence_or_an_image(texture, kind):
    name, options = FORMATS[kind]
    for case in damaged(encoded(texture, name, **options), range(400)):
        try:
            image = decode_rgb8(case, 'set/a.png', allow_grey=True)
        except DynqError as error:
            assert str(error).startswith('set/a.png: the image ') and len(str(error)) < 200
        else:
            assert image.dtype == np.uint8 and image.shape[2] == 3


@pytest.mark.parametrize('kind', ['bmp', 'tiff'])
def test_sizes_that_the_bytes_do_not_bear_out_are_refused(texture, kind):
    name, options = FORMATS[kind]
    whole = bytearray(encoded(texture, name, **options))
    if kind == 'bmp':
        places = [18, 22]
    else:
        with Image.open(io.BytesIO(bytes(whole))) as image:
            entries = len(image.tag_v2)
        first = int.from_bytes(whole[4:8], 'little') + 2
        tags = range(first, first + 12 * entries, 12)
        places = [place + 8 for place in tags if int.from_bytes(whole[place : place + 2], 'little') in (256, 257)]
        assert len(places) == 2
    for place in places:
        for value in (whole[place] - 20, whole[place] + 20):
            case = bytearray(whole)
            case[place] = value
            assert decode(bytes(case), cv2.IMREAD_COLOR) is None
