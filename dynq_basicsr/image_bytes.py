"""What an encoded image holds, read from its bytes; imports neither torch nor BasicSR."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from dynq_basicsr.errors import DynqError

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_PNG_END = b'IEND\xaeB`\x82'
# PNG colour type -> (channels, has alpha)
_PNG_COLOUR = {0: (1, False), 2: (3, False), 3: (3, False), 4: (1, True), 6: (3, True)}
# Start-of-frame markers C0..CF; C4, C8 and CC are tables, not frames.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN, _JPEG_END = 0xDA, b'\xff\xd9'


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
        if content[:8] == _PNG_SIGNATURE:
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


def is_jpeg(content: bytes) -> bool:
    """Whether an encoded image is a JPEG."""
    return content[:2] == b'\xff\xd8'


def decode(content: bytes, flag: int) -> np.ndarray | None:
    """Decode an image as OpenCV does, from its bytes, so that any file name is fine.

    Args:
        content: The encoded image.
        flag: One of ``cv2.IMREAD_...``.

    Returns:
        (H, W) or (H, W, C), BGR, or None where the bytes are no image.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flag)
    except cv2.error:
        return None


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
    facts, position = None, 2
    while True:
        while content[position] != 0xFF:  # decoders skip stray bytes between segments; so does this
            position += 1
        while content[position] == 0xFF:
            position += 1
        marker = content[position]
        if marker in _JPEG_FRAMES:
            facts = ImageFacts(content[position + 3], content[position + 8], False)
        elif marker == _JPEG_SCAN:
            break
        elif 0xD0 <= marker <= 0xD8 or marker == 0x01:  # markers without a payload
            position += 1
            continue
        position += 1 + max(2, int.from_bytes(content[position + 1 : position + 3], 'big'))
    # OpenCV up to 4.x fills the missing rest of a cut-off JPEG with grey. An end mark before the first scan is a
    # thumbnail's; none can occur inside a scan.
    if not content.endswith(_JPEG_END) and content.find(_JPEG_END, position) < 0:
        return None
    return facts


def _decoded_facts(content: bytes) -> ImageFacts | None:
    image = decode(content, cv2.IMREAD_UNCHANGED)
    if image is None:
        return None
    channels = 1 if image.ndim == 2 else image.shape[2]
    return ImageFacts(8 * image.itemsize, channels - (channels in (2, 4)), channels in (2, 4))
