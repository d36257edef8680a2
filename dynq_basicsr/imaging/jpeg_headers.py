"""What stands before the pixels of a JPEG: its segments, and EXIF's orientation."""

from __future__ import annotations

from collections.abc import Iterator

# Start-of-frame markers C0..CF; C4, C8 and CC are tables, not frames.
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_END = b'\xff\xd9'
_SCAN = 0xDA
_APP1, _EXIF = 0xE1, b'Exif\0\0'


def is_jpeg(content: bytes) -> bool:
    """Whether an encoded image is a JPEG."""
    return content[:2] == b'\xff\xd8'


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the payload of each segment up to the first scan, which is the last."""
    marker, position = 0, 2
    while marker != _SCAN:
        while content[position] != 0xFF:  # decoders skip stray bytes between segments; so does this
            position += 1
        while content[position] == 0xFF:
            position += 1
        marker, position = content[position], position + 1
        if 0xD0 <= marker <= 0xD8 or marker == 0x01:  # markers without a payload
            continue
        start, position = position + 2, position + max(2, int.from_bytes(content[position : position + 2], 'big'))
        yield marker, start, position


def jpeg_orientation(content: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 where there is none."""
    for marker, start, end in jpeg_segments(content):
        if marker == _APP1 and content.startswith(_EXIF, start):
            return _exif_orientation(content[start + len(_EXIF) : end])
    return 1


def _exif_orientation(exif: bytes) -> int:
    order = 'little' if exif[:2] == b'II' else 'big'

    def number(place: int, size: int) -> int:
        return int.from_bytes(exif[place : place + size], order)

    directory = number(4, 4)
    for place in range(directory + 2, min(directory + 2 + 12 * number(directory, 2), len(exif)), 12):
        if number(place, 2) == 0x0112:
            value = number(place + 8, 2)
            return value if 1 <= value <= 8 else 1
    return 1
