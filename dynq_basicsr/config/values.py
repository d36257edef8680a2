"""Kinds of values that several sections share."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

NAME_LENGTH = 100  # characters; BasicSR's archives and logs add up to 30 to a name, and file systems stop at 255 bytes
NAME_BYTES = 200
_FORBIDDEN = frozenset('/\\:*?"<>|')
_DEVICES = frozenset(
    ('CON', 'PRN', 'AUX', 'NUL', *(f'{port}{number}' for port in ('COM', 'LPT') for number in '0123456789¹²³'))
)


@dataclass(frozen=True)
class Means:
    """What a kind of value is called where its type alone does not say enough; ends "must be ..."."""

    text: str


def _as_whole(value: Any) -> Any:
    """``5e3`` is written for 5000: a number without a fraction counts as whole."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def is_plain_name(text: str) -> bool:
    """Whether a text can be one component of a path, on Windows, too, and stays where it is put."""
    return (
        0 < len(text) <= NAME_LENGTH
        and text.strip(' ') == text
        and not text.endswith('.')  # so neither '.' nor '..'; Windows drops it
        and not _FORBIDDEN & set(text)
        and not any(unicodedata.category(one) in ('Cc', 'Cs', 'Zl', 'Zp') for one in text)
        and len(text.encode()) <= NAME_BYTES
        and text.partition('.')[0].rstrip(' ').upper() not in _DEVICES
    )


def _plain_name(text: str) -> str:
    if not is_plain_name(text):
        raise ValueError
    return text


def is_installed(package: str) -> bool:
    """Whether a package could be imported, without importing it."""
    return find_spec(package) is not None


def _is_bits(value: int) -> int:
    if not (2 <= value <= 8 or value == 32):
        raise ValueError
    return value


def _as_list(value: Any) -> Any:
    return () if value is None else (value,) if isinstance(value, str) else value


def or_empty(kind: Any, empty: Any = None) -> Any:
    """The annotation of a section or list that may be left empty: null says as much."""
    empty = {} if empty is None else empty
    filled = BeforeValidator(lambda value: empty if value is None else value, json_schema_input_type=kind | None)
    return Annotated[kind, filled]


Whole = Annotated[int, Field(strict=True), BeforeValidator(_as_whole)]
Positive = Annotated[Whole, Field(ge=1)]
Count = Annotated[Whole, Field(ge=0)]
# Bounds far above what anybody runs, so that a slip of the pen is a sentence and no overflow or exhausted memory.
MOST_ITERATIONS = 10**9
Iterations = Annotated[Whole, Field(ge=1, le=MOST_ITERATIONS)]
BatchSize = Annotated[Whole, Field(ge=1, le=10**5)]
Workers = Annotated[Whole, Field(ge=0, le=1024)]
MOST_PATCHES = 10**7
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Rate = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Switch = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True, min_length=1)]
Name = Annotated[
    str,
    Field(strict=True, json_schema_extra={'minLength': 1, 'maxLength': NAME_LENGTH}),
    AfterValidator(_plain_name),
    Means(f'a plain name of at most {NAME_LENGTH} characters, one folder without / \\ : * ? " < > |'),
]
Bits = Annotated[
    Whole,
    Field(json_schema_extra={'enum': [*range(2, 9), 32]}),
    AfterValidator(_is_bits),
    Means('a whole number from 2 to 8, or 32 for float'),
]
LayerBits = Annotated[Whole, Field(ge=2, le=8)]
Patterns = Annotated[
    tuple[Text, ...],
    BeforeValidator(_as_list, json_schema_input_type=str | list[str] | None),
    Means('a text or a list of texts'),
]
