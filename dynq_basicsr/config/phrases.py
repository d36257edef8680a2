"""What a field may hold, in words: the same in messages and in the option reference."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dynq_basicsr.config.values import Means


def parts_of(annotation: Any) -> tuple[Any, list[Any]]:
    """An annotation without its metadata, and these, nested ones included."""
    metadata: list[Any] = []
    while get_origin(annotation) is Annotated:
        annotation, *more = get_args(annotation)
        metadata = more + metadata
    flat = []
    for one in metadata:
        flat.extend(one.metadata if isinstance(one, FieldInfo) else [one])
    return annotation, flat


def is_union(annotation: Any) -> bool:
    """Whether an annotation offers several types."""
    return get_origin(annotation) in (Union, types.UnionType)


def is_section(annotation: Any) -> bool:
    """Whether an annotation is one section."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def describe(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Say what a value may be, as ``'a number from 0 to 1'``.

    Args:
        annotation: Of a field.
        metadata: What stands beside it in a ``FieldInfo``.
    """
    annotation, inner = parts_of(annotation)
    metadata = [*inner, *metadata]
    named = [one.text for one in metadata if isinstance(one, Means)]
    if named:
        return named[-1]
    if is_union(annotation):
        return _any_of([one for one in get_args(annotation)])
    if annotation is type(None):
        return 'null'
    if get_origin(annotation) is Literal:
        choices = [_plain(one) for one in get_args(annotation)]
        return choices[0] if len(choices) == 1 else f'one of {", ".join(choices)}'
    if annotation is bool:
        return 'true or false'
    if annotation is str:
        return 'text'
    if annotation in (int, float):
        return ('a whole number' if annotation is int else 'a number') + _bounds(metadata)
    if get_origin(annotation) in (tuple, list):
        return _list_of(get_args(annotation), metadata)
    return 'a mapping of options'


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _any_of(kinds: list[Any]) -> str:
    """Several types; sections count once."""
    phrases = list(dict.fromkeys(describe(one) for one in kinds if one is not type(None)))
    if type(None) in kinds:
        phrases.append('null')
    return phrases[0] if len(phrases) == 1 else f'{", ".join(phrases[:-1])}, or {phrases[-1]}'


def _list_of(items: Sequence[Any], metadata: Sequence[Any]) -> str:
    least = [one.min_length for one in metadata if isinstance(one, annotated_types.MinLen)]
    items = [one for one in items if one is not ...]
    if len(items) > 1:
        return f'a list of {len(items)}, each {describe(items[0])}'
    some = 'a list' if not least else f'a list of at least {least[0]}'
    return f'{some}, each {describe(items[0])}'


def _short(number: float) -> str:
    return str(number) if isinstance(number, int) else f'{number:g}'


def _bounds(metadata: Sequence[Any]) -> str:
    found: Mapping[str, Any] = {}
    for one in metadata:
        found |= {key: getattr(one, key) for key in ('ge', 'gt', 'le', 'lt') if getattr(one, key, None) is not None}
    if 'ge' in found and 'le' in found:
        return f' from {_short(found["ge"])} to {_short(found["le"])}'
    words = {'ge': '>=', 'gt': '>', 'le': '<=', 'lt': '<'}
    return ''.join(f' {"and " if index else ""}{words[key]} {_short(found[key])}' for index, key in enumerate(found))
