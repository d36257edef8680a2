"""How many bytes a TIFF's LZW strip decodes to, without decoding it; most damage changes it."""

from __future__ import annotations

from functools import cache

import numpy as np

_CLEAR, _END, _FIRST = 256, 257, 258
_MOST = 4096 - _FIRST  # codes between two clearings of the table


def decoded_length(content: bytes) -> int | None:
    """The length in bytes; None where the codes contradict each other, or no end mark or end of the data ends them.

    Args:
        content: A strip or tile as TIFF 6.0 has it, section 13: the highest bit first.
    """
    data = np.frombuffer(content + b'\0\0\0', np.uint8).astype(np.int64)
    windows = data[:-2] << 16 | data[1:-1] << 8 | data[2:]  # the 24 bits from each byte on
    places, widths = _layout()
    total = start = 0
    while True:
        ends = start + places + widths
        count = int(np.searchsorted(ends, 8 * len(content), side='right'))
        where, width = start + places[:count], widths[:count]
        codes = windows[where >> 3] >> (24 - (where & 7) - width) & (1 << width) - 1
        marks = np.flatnonzero((codes == _CLEAR) | (codes == _END))
        known = codes[: marks[0]] if len(marks) else codes
        length = _length(known)
        if length is None or (not len(marks) and count == len(places)):
            return None
        total += length
        if not len(marks) or codes[marks[0]] == _END:
            return total
        start = int(ends[marks[0]])


@cache
def _layout() -> tuple[np.ndarray, np.ndarray]:
    """Bits before each code since the table was cleared, and its width: 9 to 12, one code earlier than needed."""
    widths = np.array([min((_FIRST + max(index, 1)).bit_length(), 12) for index in range(_MOST)])
    return np.cumsum(widths) - widths, widths


def _length(codes: np.ndarray) -> int | None:
    """Of the bytes that codes between two clearings stand for: one, or one more than the code that made the entry."""
    count = len(codes)
    if (codes > np.arange(count) + _END).any() or (count and codes[0] > _CLEAR):
        return None
    lengths = np.append(np.ones(count, np.int64), 0)
    parents = np.append(np.where(codes >= _FIRST, codes - _FIRST, count), count)
    while (parents < count).any():  # each round doubles how far back it sees
        lengths += lengths[parents]
        parents = parents[parents]
    return int(lengths.sum())
