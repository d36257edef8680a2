"""Lengths and checksums in the containers of image formats, checked before a decoder guesses.

What a format's redundancy can tell is told: PNG has a checksum for each chunk; TIFF's deflated strips have one each,
its raw ones and LZW's a length; BMP and WebP have lengths. Nothing in raw pixels (BMP, TIFF) or in WebP's codes tells
one value from another, so a bit that flips there goes unnoticed, as in an LZW code that stands for as many bytes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Mapping

from dynq_basicsr.imaging.lzw_lengths import decoded_length

PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_BMP_HEADERS, _BMP_DEPTHS = (12, 40, 52, 56, 64, 108, 124), (1, 4, 8, 16, 24, 32)
# TIFF type -> struct's code
_TIFF_TYPES = {1: 'B', 3: 'H', 4: 'I'}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS, _PLANAR = 256, 257, 258, 259, 277, 278, 284
_STRIPS, _TILES, _TILE_SIDES = (273, 279), (324, 325), (322, 323)
_RAW, _LZW, _DEFLATE, _SEPARATE = 1, 5, (8, 32946), 2


def is_whole(content: bytes) -> bool:
    """Whether the container is consistent; True for formats that are not known here.

    Args:
        content: The encoded image; JPEG is ``image_bytes``' own affair.
    """
    check = next((check for start, check in _CHECKS.items() if content.startswith(start)), None)
    try:
        return check is None or check(content)
    except (struct.error, IndexError, KeyError, OverflowError, zlib.error):  # it ends too early, or lacks what it needs
        return False


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a PNG up to its end mark, or up to the first that is damaged.

    Args:
        content: Bytes that begin with PNG's signature.

    Yields:
        Kind, and where its data begins and ends.
    """
    position, kind = 8, b''
    while kind != b'IEND':
        length, kind = struct.unpack_from('>I4s', content, position)
        start, end = position + 8, position + 8 + length
        (checksum,) = struct.unpack_from('>I', content, end)
        if zlib.crc32(memoryview(content)[position + 4 : end]) != checksum:
            return
        yield kind, start, end
        position = end + 4


def tiff_depths(content: bytes) -> tuple[int, ...]:
    """Bits of each channel of a TIFF's first page; empty where the content is none, or says nothing.

    Raises:
        struct.error: If it ends too early.
    """
    if _CHECKS.get(content[:4]) is not _tiff:
        return ()
    return _tiff_tags(content, '<' if content.startswith(b'II') else '>').get(_BITS, ())


def _png(content: bytes) -> bool:
    kinds = [kind for kind, _, _ in png_chunks(content)]
    return kinds[0] == b'IHDR' and kinds[-1] == b'IEND' and b'IDAT' in kinds


def _bmp(content: bytes) -> bool:
    total, _, offset, header = struct.unpack_from('<IIII', content, 2)
    if header not in _BMP_HEADERS or not 14 + header <= offset <= len(content) or total > len(content):
        return False
    if header == 12:
        width, height, planes, depth = struct.unpack_from('<HHHH', content, 18)
        packing = size = 0
    else:
        width, height, planes, depth, packing, size = struct.unpack_from('<iiHHII', content, 18)
    if planes != 1 or depth not in _BMP_DEPTHS or width <= 0 or height == 0:
        return False
    if packing not in (0, 3):  # run lengths
        return size <= len(content) - offset
    needed = (width * depth + 31) // 32 * 4 * abs(height)
    # some writers leave the size out, some count a padding of up to four bytes
    return needed <= len(content) - offset and (not size or needed <= size <= needed + 4)


def _webp(content: bytes) -> bool:
    end = 8 + int.from_bytes(content[4:8], 'little')
    if content[8:12] != b'WEBP' or end > len(content):
        return False
    position, kinds = 12, []
    while position < end:
        kind, length = struct.unpack_from('<4sI', content, position)
        kinds.append(kind)
        position += 8 + length + length % 2
    return position == end and kinds[0] in (b'VP8 ', b'VP8L', b'VP8X')


def _tiff(content: bytes) -> bool:
    order = '<' if content[:2] == b'II' else '>'
    tags = _tiff_tags(content, order)

    def one(tag: int, default: int | None = None) -> int:
        return tags[tag][0] if default is None or tag in tags else default

    width, height, samples = one(_WIDTH), one(_HEIGHT), one(_SAMPLES, 1)
    bits, planes = tags.get(_BITS, (1,)), samples if one(_PLANAR, 1) == _SEPARATE else 1
    if not width or not height or not samples or len(set(bits)) > 1 or len(bits) not in (1, samples):
        return False
    offsets, counts = (tags[tag] for tag in (_TILES if _TILES[0] in tags else _STRIPS))
    if _TILES[0] in tags:
        across, down = (one(tag) for tag in _TILE_SIDES)
        rows = [down] * (-(-width // across) * -(-height // down)) if across and down else []
    else:
        across, step = width, min(one(_ROWS, height), height)
        rows = [min(step, height - top) for top in range(0, height, step)] if step else []
    rows = rows * planes
    if not rows or not len(rows) == len(offsets) == len(counts):
        return False
    end = 8  # of what lies before
    for offset, count in sorted(zip(offsets, counts, strict=True)):
        if offset < end or offset + count > len(content):
            return False
        end = offset + count
    line = (across * bits[0] * (samples // planes) + 7) // 8
    sizes = [line * row for row in rows]
    compression = one(_COMPRESSION, _RAW)
    if compression == _RAW:
        return list(counts) == sizes
    check = _inflates if compression in _DEFLATE else _lzw if compression == _LZW else None
    spans = zip(offsets, counts, sizes, strict=True)
    return check is None or all(check(content[offset : offset + count], size) for offset, count, size in spans)


def _tiff_tags(content: bytes, order: str) -> Mapping[int, tuple[int, ...]]:
    """The whole numbers of the first image's directory, by tag."""
    (position,) = struct.unpack_from(f'{order}I', content, 4)
    (entries,) = struct.unpack_from(f'{order}H', content, position)
    tags = {}
    for place in range(position + 2, position + 2 + 12 * entries, 12):
        tag, kind, count = struct.unpack_from(f'{order}HHI', content, place)
        code = _TIFF_TYPES.get(kind)
        if code is None or count > len(content):
            continue
        layout = f'{order}{count}{code}'
        where = place + 8 if struct.calcsize(layout) <= 4 else struct.unpack_from(f'{order}I', content, place + 8)[0]
        tags[tag] = struct.unpack_from(layout, content, where)
    return tags


def _inflates(content: bytes, size: int) -> bool:
    """Whether deflated bytes are whole, their checksum included, and of the right size."""
    stream = zlib.decompressobj()
    return len(stream.decompress(content, size + 1)) == size and not stream.decompress(stream.unconsumed_tail, 1) and (
        stream.eof
    )


def _lzw(content: bytes, size: int) -> bool:
    """Whether LZW's codes stand for so many bytes; those of before TIFF 6.0, lowest bit first, are not looked at."""
    old = content.startswith(b'\0') and content[1:2] and content[1] & 1
    return bool(old) or decoded_length(content) == size


_CHECKS: dict[bytes, Callable[[bytes], bool]] = {
    PNG_SIGNATURE: _png,
    b'BM': _bmp,
    b'RIFF': _webp,
    b'II*\0': _tiff,
    b'MM\0*': _tiff,
}
