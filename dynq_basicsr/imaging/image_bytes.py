"""Encoded images: what they hold, strict decoding, and writing of whole files; imports neither torch nor BasicSR.

Damage is an error as far as the format can tell (see ``image_containers``). A JPEG's codes have no checksum either, but
damage there nearly always leaves too many or too few of them, which decoders know and do not say unless asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg

from dynq_basicsr.atomic import NotWritten, write_whole
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_containers import PNG_SIGNATURE, is_whole
from dynq_basicsr.imaging.jpeg_headers import JPEG_END, JPEG_FRAMES, is_jpeg, jpeg_orientation, jpeg_segments

# Endings of the files that are taken for images where a folder is given.
IMAGE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.jfif', '.webp', '.bmp', '.tif', '.tiff')

_PNG_END = b'IEND\xaeB`\x82'
# PNG colour type -> (channels, has alpha)
_PNG_COLOUR = {0: (1, False), 2: (3, False), 3: (3, False), 4: (1, True), 6: (3, True)}
# Warnings of libjpeg about headers that decode to the right pixels all the same; phones write the first.
_HARMLESS = ('Invalid SOS parameters', 'Warning: unknown JFIF revision', 'Unknown Adobe color transform')


class ImageFacts(NamedTuple):
    """What an encoded image holds: bits a channel, colour channels, and whether it has transparency."""

    bits: int
    channels: int
    alpha: bool


def unreadable(name: str) -> DynqError:
    """Return the error for an image whose bytes do not decode.

    Args:
        name: The file, or the LMDB key, as the user knows it.
    """
    return DynqError(f'{name}: the image is damaged or cut off and cannot be decoded; copy it again or remove it.')


def read_facts(content: bytes, name: str) -> ImageFacts:
    """What an image holds, and that its end is there.

    PNG and JPEG cost microseconds; any other format is decoded to learn its depth and channels.

    Args:
        content: The encoded image.
        name: The file, or the LMDB key, to be named in the error.

    Raises:
        DynqError: If the image is empty, cut off or none.
    """
    if len(content) == 0:
        raise DynqError(f'{name}: the image is empty (0 bytes); copy it again or remove it.')
    try:
        if content[:8] == PNG_SIGNATURE:
            facts = _png_facts(content)
        elif is_jpeg(content):
            facts = _jpeg_facts(content)
        else:
            facts = _decoded_facts(content)
    except IndexError:  # the header itself is cut off
        facts = None
    if facts is None:
        raise unreadable(name)
    return facts


def read_size(content: bytes, name: str) -> tuple[int, int]:
    """Width and height in pixels of an image, as decoded (EXIF's orientation applied); PNG and JPEG by their header.

    Args:
        content: The encoded image.
        name: The file, or the LMDB key, to be named in the error.

    Raises:
        DynqError: As ``read_facts``.
    """
    read_facts(content, name)
    size = peek_size(content)
    if size is None:
        height, width = decode(content, cv2.IMREAD_COLOR).shape[:2]
        size = width, height
    return size


def peek_size(head: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of an image, as decoded, by its first bytes alone.

    Args:
        head: Some ten thousand bytes, or all.

    Returns:
        None where they do not tell, as those of formats besides PNG and JPEG.
    """
    if head[:8] == PNG_SIGNATURE:
        if b'eXIf' in head or len(head) < 24:  # which may turn it, in some versions of OpenCV
            return None
        return int.from_bytes(head[16:20], 'big'), int.from_bytes(head[20:24], 'big')
    if not is_jpeg(head):
        return None
    try:
        start = next(start for marker, start, _ in jpeg_segments(head) if marker in JPEG_FRAMES)
        turned = jpeg_orientation(head) >= 5
    except (IndexError, StopIteration):  # cut off within its header
        return None
    height, width = (int.from_bytes(head[start + at : start + at + 2], 'big') for at in (1, 3))
    return (height, width) if turned else (width, height)


def decode(content: bytes, flag: int) -> np.ndarray | None:
    """Decode an image as OpenCV does, from its bytes, so that any file name is fine, and strictly.

    Args:
        content: The encoded image.
        flag: One of ``cv2.IMREAD_...``.

    Returns:
        (H, W) or (H, W, C), BGR, or None where the bytes are no image, or a damaged one.
    """
    if is_jpeg(content):
        return _decode_jpeg(content, flag)
    return _decode_by_opencv(content, flag) if is_whole(content) else None


def encode(image: np.ndarray, ending: str, parameters: Sequence[int] = ()) -> memoryview | None:
    """Encode an image as OpenCV does, into bytes: OpenCV's own writing of files fails on some names, and in silence.

    Args:
        image: (H, W) or (H, W, C), BGR or BGR with transparency, uint8 or uint16.
        ending: Of the format, ``.png``.
        parameters: OpenCV's, pairs of ``cv2.IMWRITE_...`` and a value.

    Returns:
        The encoded image, or None where the format cannot hold it.
    """
    try:
        done, content = cv2.imencode(ending, image, parameters)
    except cv2.error:
        return None
    return memoryview(content) if done else None


def write_image(path: Path, image: np.ndarray, parameters: Sequence[int] = ()) -> None:
    """Encode an image as the ending of its name says, and write it whole or not at all; its folder is made.

    Args:
        path: The file; any name will do.
        image: See ``encode``.
        parameters: See ``encode``.

    Raises:
        DynqError: If the format does not hold it, or it cannot be written.
    """
    write_encoded(path, encode(image, path.suffix.lower(), parameters), image)


def write_encoded(path: Path, content: bytes | memoryview | None, image: np.ndarray) -> None:
    """Write an encoded image whole or not at all; its folder is made.

    Args:
        path: The file; any name will do.
        content: The encoded image; None: the format does not hold it.
        image: The image, to be named in the error.

    Raises:
        DynqError: If the format does not hold it, or it cannot be written.
    """
    if content is None:
        sides = ' x '.join(map(str, image.shape[1::-1]))
        raise DynqError(f'{path}: {path.suffix[1:]} cannot hold an image of {sides} pixels; take png.')
    make_folder_for(path)
    write_whole(path, content)


def make_folder_for(path: Path) -> None:
    """Make the folder of a file that is to be written.

    Raises:
        NotWritten: If it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(path, error) from error


def turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels (H, W) or (H, W, C) as EXIF's orientation says, 1 to 8; others leave them as they are."""
    if orientation >= 5:
        image = cv2.transpose(image)
    axis = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}.get(orientation)
    return image if axis is None else cv2.flip(image, axis)


def _decode_by_opencv(content: bytes, flag: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:
        return None


def _decode_jpeg(content: bytes, flag: int) -> np.ndarray | None:
    """As OpenCV, by the same library, which is asked for its warnings here."""
    try:
        colours = simplejpeg.decode_jpeg_header(content)[2]
        if colours == 'CMYK':  # OpenCV knows how Adobe inverts it
            simplejpeg.decode_jpeg(content, 'CMYK')
            return _decode_by_opencv(content, flag)
        as_it_is = flag == cv2.IMREAD_UNCHANGED
        grey = colours == 'Gray' if as_it_is or flag & cv2.IMREAD_ANYCOLOR else not flag & cv2.IMREAD_COLOR
        image = _decode_strictly(content, 'GRAY' if grey else 'BGR')
        image = image[..., 0] if grey else image
        kept = as_it_is or flag & cv2.IMREAD_IGNORE_ORIENTATION
        return image if kept else turn(image, jpeg_orientation(content))
    except (ValueError, IndexError, MemoryError):
        return None


def _decode_strictly(content: bytes, colours: str) -> np.ndarray:
    try:
        return simplejpeg.decode_jpeg(content, colours)
    except ValueError as error:
        if not str(error).startswith(_HARMLESS):
            raise
        return simplejpeg.decode_jpeg(content, colours, strict=False)


def _png_facts(content: bytes) -> ImageFacts | None:
    # Some OpenCV versions return the decoded part of a cut-off file, so the end mark is looked for here.
    if not content.endswith(_PNG_END) and content.rfind(_PNG_END) < 0:
        return None
    bits, colour = content[24], content[25]
    if colour not in _PNG_COLOUR:
        return None
    channels, alpha = _PNG_COLOUR[colour]
    position = 8
    while not alpha:  # transparency may also be given by a tRNS chunk, which stands before the pixels
        kind = content[position + 4 : position + 8]
        if kind in (b'IDAT', b'IEND', b''):
            break
        alpha = kind == b'tRNS'
        position += 12 + int.from_bytes(content[position : position + 4], 'big')
    return ImageFacts(max(bits, 8), channels, alpha)  # 1, 2 and 4 bits expand to 8 without loss


def _jpeg_facts(content: bytes) -> ImageFacts | None:
    segments = list(jpeg_segments(content))
    frames = [start for marker, start, _ in segments if marker in JPEG_FRAMES]
    # An end mark before the first scan is a thumbnail's.
    whole = content.endswith(JPEG_END) or content.find(JPEG_END, segments[-1][2]) >= 0
    return ImageFacts(content[frames[0]], content[frames[0] + 5], False) if whole else None


def _decoded_facts(content: bytes) -> ImageFacts | None:
    image = decode(content, cv2.IMREAD_UNCHANGED)
    if image is None:
        return None
    channels = 1 if image.ndim == 2 else image.shape[2]
    return ImageFacts(8 * image.itemsize, channels - (channels in (2, 4)), channels in (2, 4))
