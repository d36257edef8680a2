"""Picture files with what results keep: pixels, transparency, colour profile, resolution, EXIF.

OpenCV encodes PNG and TIFF, which hold 16 bits with it; what they say besides their pixels is put in here. Pillow
writes all else, as a whole.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from PIL import Image
from PIL.ExifTags import IFD, Base
from PIL.TiffImagePlugin import EXTRASAMPLES, ICCPROFILE, RESOLUTION_UNIT, STRIPOFFSETS, ImageFileDirectory_v2

from dynq_basicsr.imaging.image_bytes import encode
from dynq_basicsr.imaging.image_containers import PNG_SIGNATURE
from dynq_basicsr.imaging.metadata import Metadata, load_exif
from dynq_basicsr.imaging.pictures import Picture

JPEG = ('.jpg', '.jpeg', '.jfif')
TIFF = ('.tif', '.tiff')
DEEP = ('.png', *TIFF)  # that hold 16 bits
MOST_SIDE = {**dict.fromkeys(JPEG, 65500), '.webp': 16383}  # pixels
_KINDS = {
    **dict.fromkeys(JPEG, ('JPEG', {'quality': 95})),
    '.webp': ('WEBP', {'lossless': True, 'exact': True}),
    '.bmp': ('BMP', {}),
}
_JPEG_EXIF = 65533  # bytes of a segment
_HEADER, _PNG_HEADER = 8, 33  # bytes, of TIFF and of PNG with its first chunk
_EXIF_PREFIX, _STRAIGHT, _INCH = 6, 2, 2
_PNG_COLOURS, _PNG_SUB = {1: 0, 3: 2, 4: 6}, 1  # channels -> colour type; the filter: difference from the left


def encode_picture(picture: Picture, ending: str) -> bytes | memoryview | None:
    """Encode a picture.

    Args:
        picture: Of uint8, or uint16 for formats of ``DEEP``.
        ending: Of the format, ``.png``.

    Returns:
        The encoded picture, or None where the format cannot hold it.
    """
    if ending not in DEEP:
        return _by_pillow(picture, ending)
    pixels, metadata = _for_opencv(picture), picture.metadata
    content, profile = encode(pixels, ending), metadata.profile_for(_channels_written(picture, ending))
    if content is None:
        return None
    if ending in TIFF:
        return _with_tags(bytes(content), metadata, profile, picture.alpha is not None)
    return _with_chunks(content, metadata, profile)


def encode_png_rows(strips: Iterable[Picture], height: int) -> Iterator[bytes]:
    """Encode a picture as a PNG that need not fit into memory.

    Args:
        strips: Its rows, from above; of uint8 or uint16.
        height: Of all of them together.

    Yields:
        The file, piece by piece.
    """
    squeeze, begun = zlib.compressobj(1, strategy=zlib.Z_RLE), False
    for strip in strips:
        pixels = strip.colour if strip.alpha is None else _repeated(strip)
        (rows, width, channels), bits = pixels.shape, 8 * pixels.itemsize
        if not begun:
            header = struct.pack('>IIBBBBB', width, height, bits, _PNG_COLOURS[channels], 0, 0, 0)
            profile = strip.metadata.profile_for(_channels_written(strip, '.png'))
            yield b''.join([PNG_SIGNATURE, _chunk(b'IHDR', header), *_chunks(strip.metadata, profile)])
            begun = True
        line = np.ascontiguousarray(pixels, f'>u{pixels.itemsize}').view(np.uint8).reshape(rows, -1)
        step = channels * pixels.itemsize
        filtered = np.empty((rows, 1 + line.shape[1]), np.uint8)
        filtered[:, 0] = _PNG_SUB
        filtered[:, 1 : 1 + step] = line[:, :step]
        np.subtract(line[:, step:], line[:, :-step], out=filtered[:, 1 + step :])
        yield _chunk(b'IDAT', squeeze.compress(filtered))
    yield _chunk(b'IDAT', squeeze.flush()) + _chunk(b'IEND', b'')


def left_out(picture: Picture, ending: str) -> list[str]:
    """What of a picture's metadata a format does not hold, in words."""
    metadata, lost = picture.metadata, []
    fits = ending != '.bmp' and metadata.profile_for(_channels_written(picture, ending)) is not None
    if metadata.icc and not fits:
        lost.append('colour profile')
    if metadata.exif and (ending == '.bmp' or ending in JPEG and len(metadata.exif) > _JPEG_EXIF):
        lost.append('EXIF')
    return lost


def _channels_written(picture: Picture, ending: str) -> int:
    """OpenCV has no grey with transparency, WebP no grey at all."""
    grey = picture.colour.shape[2] == 1 and picture.alpha is None and ending != '.webp'
    return 1 if grey else 3


def _by_pillow(picture: Picture, ending: str) -> bytes | None:
    kind, options = _KINDS[ending]
    metadata, lost = picture.metadata, left_out(picture, ending)
    pixels = picture.colour if picture.alpha is None else _repeated(picture)
    if kind != 'BMP':
        exif = metadata.exif_with_resolution() if kind == 'WEBP' else metadata.exif
        profile = metadata.profile_for(_channels_written(picture, ending))
        options = options | ({'icc_profile': profile} if profile else {})
        options |= {'exif': exif} if exif and 'EXIF' not in lost else {}
    if kind != 'WEBP' and metadata.dpi:
        options = options | {'dpi': tuple(round(one) for one in metadata.dpi)}
    stream = io.BytesIO()
    try:
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(stream, kind, **options)
    except (OSError, ValueError, struct.error):  # too large
        return None
    return stream.getvalue()


def _with_chunks(content: memoryview, metadata: Metadata, profile: bytes | None) -> bytes:
    """A PNG with profile, resolution and EXIF between its header and its pixels."""
    return b''.join([content[:_PNG_HEADER], *_chunks(metadata, profile), content[_PNG_HEADER:]])


def _chunks(metadata: Metadata, profile: bytes | None) -> list[bytes]:
    chunks = []
    if profile:
        chunks.append(_chunk(b'iCCP', b'ICC profile\0\0' + zlib.compress(profile)))
    if metadata.dpi:
        across, down = (round(one / 0.0254) for one in metadata.dpi)
        chunks.append(_chunk(b'pHYs', struct.pack('>IIB', across, down, 1)))
    if metadata.exif:
        chunks.append(_chunk(b'eXIf', metadata.exif[_EXIF_PREFIX:]))
    return chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def _with_tags(content: bytes, metadata: Metadata, profile: bytes | None, alpha: bool) -> bytes:
    """A TIFF with profile, resolution, EXIF, and that its transparency is straight: the directory is written anew."""
    given, tags = (ImageFileDirectory_v2(content[:_HEADER]) for _ in range(2))
    stream = io.BytesIO(content)
    stream.seek(given.next)
    given.load(stream)
    tags.update(given)
    # Pillow writes the directory first, and offsets then count from its end
    tags[STRIPOFFSETS] = tuple(offset - _HEADER for offset in tags[STRIPOFFSETS])
    if profile:
        tags[ICCPROFILE] = profile
    if metadata.dpi:
        tags[Base.XResolution], tags[Base.YResolution] = metadata.dpi
        tags[RESOLUTION_UNIT] = _INCH
    if alpha:
        tags[EXTRASAMPLES] = _STRAIGHT
    if metadata.exif:
        exif = load_exif(metadata.exif)
        for tag, value in exif.items():
            tags[tag] = dict(exif.get_ifd(tag)) if tag in (IFD.Exif, IFD.GPSInfo) else value
    stream = io.BytesIO()
    tags.save(stream)
    stream.write(content[_HEADER:])
    return stream.getvalue()


def _for_opencv(picture: Picture) -> np.ndarray:
    if picture.alpha is not None:
        return cv2.cvtColor(_repeated(picture), cv2.COLOR_RGBA2BGRA)
    colour = picture.colour
    return colour if colour.shape[2] == 1 else cv2.cvtColor(colour, cv2.COLOR_RGB2BGR)


def _repeated(picture: Picture) -> np.ndarray:
    """(H, W, 4): RGB, or grey three times, and transparency."""
    colour = picture.colour
    return np.dstack([colour if colour.shape[2] == 3 else colour.repeat(3, axis=2), picture.alpha])
