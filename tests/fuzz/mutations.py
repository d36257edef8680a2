"""Seeded damage, to bytes and to nested plain values; one seed, one case."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

# What stands where something else should: other types, extremes, nothing.
ODDITIES = (
    None, True, False, 0, 1, -1, 2, 0.5, -0.0, 10**9, -(10**9), 10**30, 1e308, math.inf, -math.inf, math.nan, '', 'x',
    '0', 'true', 'nan', 'a' * 5000, '../x', '/x', 'a\0b', '\ud800', '名', [], [0], [math.nan], [[]], {}, {'x': 0},
)  # fmt: skip


def flip_bit(content: bytes, random: Random) -> bytes:
    """One bit."""
    return _with(content, lambda data, place: data.__setitem__(place, data[place] ^ 1 << random.randrange(8)), random)


def set_byte(content: bytes, random: Random) -> bytes:
    """One byte, to anything."""
    return _with(content, lambda data, place: data.__setitem__(place, random.randrange(256)), random)


def zero_block(content: bytes, random: Random, length: int | None = None) -> bytes:
    """Zeros in place of a run of bytes, as of a lost sector."""
    length = min(length or 2 ** random.randrange(3, 13), len(content))
    place = random.randrange(len(content) - length + 1)
    return content[:place] + bytes(length) + content[place + length :]


def cut(content: bytes, random: Random) -> bytes:
    """The beginning."""
    return content[: random.randrange(len(content))]


def cut_with_tail(content: bytes, random: Random) -> bytes:
    """The beginning, and other bytes up to the same end."""
    place = random.randrange(len(content) - 12)
    return content[:place] + random.randbytes(random.randrange(200)) + content[-12:]


def drop(content: bytes, random: Random) -> bytes:
    """A run of bytes is missing."""
    place, length = random.randrange(len(content)), random.randrange(1, 64)
    return content[:place] + content[place + length :]


def insert(content: bytes, random: Random) -> bytes:
    """A run of bytes too many."""
    place = random.randrange(len(content))
    return content[:place] + random.randbytes(random.randrange(1, 64)) + content[place:]


def swap(content: bytes, random: Random) -> bytes:
    """Two runs of bytes have changed places."""
    length = random.randrange(1, max(2, len(content) // 4))
    first, second = sorted(random.randrange(len(content) - 2 * length + 1) for _ in range(2))
    second += length
    middle = content[first + length : second]
    return content[:first] + content[second : second + length] + middle + content[first : first + length] + content[
        second + length :
    ]


BYTES = (flip_bit, set_byte, zero_block, cut, cut_with_tail, drop, insert, swap)


def damaged(content: bytes, seeds: range, kinds: tuple[Callable, ...] = BYTES) -> Iterator[bytes]:
    """Damaged copies, each unlike the original.

    Args:
        content: At least 100 bytes.
        seeds: One for each case.
        kinds: Taken in turn.
    """
    for seed in seeds:
        case = kinds[seed % len(kinds)](content, Random(seed))
        if case != content:
            yield case


def altered(value: Mapping, seed: int, oddities: Sequence = ODDITIES) -> dict:
    """A copy of nested mappings and lists, with one place changed.

    Args:
        value: Plain values; what is neither mapping nor list is taken as it is.
        seed: Of the place and the change.
        oddities: What may stand there instead.
    """
    random, result = Random(seed), copy.deepcopy(value)
    container, key = random.choice(list(_places(result)))
    change = random.randrange(6)
    if change == 0:
        del container[key]
    elif change == 1 and isinstance(container[key], int | float) and not isinstance(container[key], bool):
        container[key] = random.choice((-1, 0.5, 2, 1000, math.nan)) * container[key]
    elif change == 2 and isinstance(container, dict):
        container[random.choice(('x', '', 'name', 0, None, '\ud800'))] = container.pop(key)
    elif change == 3 and isinstance(container[key], list) and len(container[key]) > 1:
        random.shuffle(container[key])
    elif change == 4:
        container[key] = nested(random.choice((5, 50)), random)
    else:
        container[key] = copy.deepcopy(random.choice(oddities))
    return result


def nested(depth: int, random: Random) -> object:
    """Lists and mappings within each other."""
    value: object = 0
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {'x': value}
    return value


def _places(value: object) -> Iterator[tuple]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(pairs):
        yield value, key
        yield from _places(one)


def _with(content: bytes, change: Callable, random: Random) -> bytes:
    data = bytearray(content)
    change(data, random.randrange(len(data)))
    return bytes(data)
