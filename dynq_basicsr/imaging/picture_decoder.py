"""Pixels of picture files: grey or RGB, straight transparency, upright, of 8 or 16 bits; strictly.

Each library for what it decodes rightly, as the tests show: simplejpeg JPEG; OpenCV PNG and TIFF of 16 bits, which
Pillow cuts down to 8; Pillow all else, of which OpenCV loses transparency (grey PNG), multiplies colours by it (TIFF)
and takes black for it (CMYK).
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.TiffImagePlugin import EXTRASAMPLES, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, SAMPLEFORMAT

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import decode, turn, unreadable
from dynq_basicsr.imaging.image_containers import PNG_SIGNATURE, is_whole, png_chunks, tiff_depths
from dynq_basicsr.imaging.jpeg_headers import is_jpeg
from dynq_basicsr.imaging.metadata import Metadata, read_metadata, read_orientation

# What Pillow may take content for; some of its other formats start programs.
FORMATS = ('PNG', 'JPEG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM', 'AVIF')
OPENCV_MOST = 2**30  # pixels that OpenCV decodes
_GREY, _COLOURED = ('1', 'L', 'LA', 'La'), ('P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'YCbCr')
_NEW_SUBFILE, _PREVIEW_OR_MASK = 254, 1 | 4
_WHITE_IS_ZERO, _SEPARATE = 0, 2
_UNSPECIFIED, _PREMULTIPLIED, _STRAIGHT = 0, 1, 2  # extra samples
_LIMIT = threading.Lock()

Pixels = tuple[np.ndarray, np.ndarray | None]


def decode_pixels(content: bytes, name: str, most: int | None = None, scale: int = 1) -> tuple[Pixels, Metadata]:
    """Decode a picture.

    Args:
        content: The encoded picture.
        name: The file, to be named in errors.
        most: Pixels that it may have once it is ``scale`` times as high and wide; None: any number.
        scale: See ``most``.

    Returns:
        Colour (H, W, 3) RGB or (H, W, 1) grey, uint8 or uint16, and transparency (H, W, 1) of the same type or None;
        what else the file says.

    Raises:
        DynqError: If it is damaged or cut off, too large, of several frames, or neither of 8 nor of 16 bits a channel.
    """
    if not content:
        raise DynqError(f'{name}: the image is empty (0 bytes); copy it again or remove it.')
    if not is_jpeg(content) and not is_whole(content):
        raise unreadable(name)
    _check_depth(content, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about what surrounds the pixels
            with _opened(content) as image:
                _check_size(image, name, most, scale)
                _check_frames(image, name)
                metadata = read_metadata(image)
                warnings.simplefilter('error')
                return _pixels(image, content, name), _of_result(metadata, image)
    except (DynqError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise (_unknown_tiff if tiff_depths(content) else unreadable)(name) from error
    except Exception as error:  # decoders fail in as many ways as files are damaged
        raise unreadable(name) from error


def _unknown_tiff(name: str) -> DynqError:
    return DynqError(
        f'{name}: TIFF is known here with grey, RGB or CMYK of 8 bits, or contiguous grey, RGB or RGBA of 16; convert '
        'it to PNG.'
    )


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """A picture whose header is read; sizes are limited here, not by Pillow."""
    Image.init()
    with _LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(io.BytesIO(content), formats=[one for one in FORMATS if one in Image.OPEN])
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _depth(content: bytes) -> int:
    """Bits a channel where they decide who decodes: of PNG and TIFF; 8 of all others."""
    if content.startswith(PNG_SIGNATURE):
        return max(content[24], 8)
    return max(tiff_depths(content), default=8)


def _check_depth(content: bytes, name: str) -> None:
    try:
        bits = _depth(content)
    except (struct.error, IndexError, KeyError) as error:
        raise unreadable(name) from error
    if bits > 8 and bits != 16:
        raise DynqError(f'{name}: the image has {bits} bits per channel; convert it to 8 or 16.')


def _check_size(image: Image.Image, name: str, most: int | None, scale: int) -> None:
    width, height = image.size
    if most is not None and width * height * scale**2 > most:
        raise DynqError(
            f'{name}: {width} x {height} pixels would become {scale * width} x {scale * height}, more than '
            f'--max-pixels {most}; raise it if memory and disk suffice, or cut the picture into parts.'
        )
    if width * height > OPENCV_MOST:
        raise DynqError(f'{name}: {width} x {height} pixels are more than can be decoded; cut the picture into parts.')


def _check_frames(image: Image.Image, name: str) -> None:
    if image.format in ('JPEG', 'MPO'):  # the further ones are previews and depth or gain maps
        return
    frames = getattr(image, 'n_frames', 1)
    if image.format == 'TIFF' and frames > 1:
        pages = [index for index in range(frames) if _is_page(image, index)]
        image.seek(0)
        frames = 1 if pages == [0] else frames
    if frames > 1:
        raise DynqError(
            f'{name}: holds {frames} frames or pages, of which one alone would be upscaled; write each into a file '
            'of its own, with ffmpeg or ImageMagick, and give the folder of them.'
        )


def _is_page(image: Image.Image, index: int) -> bool:
    image.seek(index)
    return not image.tag_v2.get(_NEW_SUBFILE, 0) & _PREVIEW_OR_MASK


def _of_result(metadata: Metadata, image: Image.Image) -> Metadata:
    """The metadata without the profile of colours that were converted to sRGB."""
    return replace(metadata, icc=None) if image.mode == 'CMYK' else metadata


def _pixels(image: Image.Image, content: bytes, name: str) -> Pixels:
    orientation = 1 if image.format == 'TIFF' else read_orientation(image)  # Pillow and OpenCV turn TIFF themselves
    found = decode(content, cv2.IMREAD_UNCHANGED) if is_jpeg(content) else None
    if is_jpeg(content) and found is None:
        raise unreadable(name)
    if image.mode == 'CMYK':
        return turn(np.array(_to_srgb(image)), orientation), None
    if found is not None:
        return _rgb(turn(found, orientation)), None
    if _depth(content) == 16:
        return _deep(image, content, name, orientation)
    if image.mode not in (*_GREY, *_COLOURED):
        raise DynqError(f'{name}: its colours are of an unknown kind ({image.mode}); convert it to RGB.')
    return _split(image, content, orientation)


def _split(image: Image.Image, content: bytes, orientation: int) -> Pixels:
    grey = image.mode in _GREY
    if grey and image.mode in ('1', 'L'):
        colour = np.array(image.convert('L'))
        key = _grey_key(content)
        both = [colour] if key is None else [colour, _keyed(colour, key)]
    elif image.has_transparency_data:
        pixels = np.array(image.convert('LA' if grey else 'RGBA'))
        both = [pixels[..., :-1], pixels[..., -1]]
    else:
        both = [np.array(image.convert('RGB'))]
    colour, *alpha = (turn(np.ascontiguousarray(one), orientation) for one in both)
    return _with_axis(colour), _with_axis(alpha[0]) if alpha else None


def _deep(image: Image.Image, content: bytes, name: str, orientation: int) -> Pixels:
    """PNG and TIFF of 16 bits, by OpenCV."""
    tags = getattr(image, 'tag_v2', {})
    colours, whole = tags.get(PHOTOMETRIC_INTERPRETATION), set(tags.get(SAMPLEFORMAT, (1,))) == {1}
    plain = whole and tags.get(PLANAR_CONFIGURATION, 1) != _SEPARATE and len(image.getbands()) != 2
    if image.format == 'TIFF' and not (plain and colours in (_WHITE_IS_ZERO, 1, 2)):
        raise _unknown_tiff(name)
    found = decode(content, cv2.IMREAD_UNCHANGED)
    if found is None or found.dtype != np.uint16:
        raise unreadable(name)
    found = turn(found, orientation)
    if found.ndim == 2:
        grey = 65535 - found if image.format == 'TIFF' and colours == _WHITE_IS_ZERO else found
        key = _grey_key(content)
        return _with_axis(grey), None if key is None else _with_axis(_keyed(grey, key))
    extra = next(iter(tags.get(EXTRASAMPLES, ())), _STRAIGHT)
    colour, alpha = _rgb(found), found[..., 3:] if found.shape[2] == 4 and extra != _UNSPECIFIED else None
    if alpha is not None and extra == _PREMULTIPLIED:
        straight = colour * (65535 / np.maximum(alpha, 1, dtype=np.float64))
        colour = np.rint(np.minimum(straight, 65535)).astype(np.uint16)
    if image.format == 'PNG' and content[25] == 4:  # grey, which OpenCV repeats
        colour = colour[..., :1]
    return colour, alpha


def _to_srgb(image: Image.Image) -> Image.Image:
    """CMYK as RGB: by its profile, which says what the inks look like, or else as if they were perfect."""
    profile = image.info.get('icc_profile')
    if profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.profileToProfile(image, inks, ImageCms.createProfile('sRGB'), outputMode='RGB')
        except (ImageCms.PyCMSError, OSError):  # no profile, or one of other colours
            pass
    return image.convert('RGB')


def _grey_key(content: bytes) -> tuple[int, int] | None:
    """The grey of a PNG that stands for transparency, and the largest: a tRNS chunk; None: there is none."""
    if not content.startswith(PNG_SIGNATURE) or content[25] != 0:
        return None
    most = (1 << content[24]) - 1
    for kind, start, _ in png_chunks(content):
        if kind == b'tRNS':
            return int.from_bytes(content[start : start + 2], 'big') & most, most
    return None


def _keyed(grey: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    white = np.iinfo(grey.dtype).max
    return np.where(grey == key[0] * white // key[1], 0, white).astype(grey.dtype)


def _rgb(image: np.ndarray) -> np.ndarray:
    """OpenCV's order of channels as RGB, without transparency; grey as it is."""
    return _with_axis(image) if image.ndim == 2 else np.ascontiguousarray(image[..., 2::-1])


def _with_axis(image: np.ndarray) -> np.ndarray:
    return image[..., None] if image.ndim == 2 else image
