"""From pydantic's errors to sentences that name the key, what it may be, and what stands there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import PydanticCustomError

from dynq_basicsr.config.phrases import describe, is_section, is_union, parts_of
from dynq_basicsr.errors import nearest, shown, unknown_option

KEY = '[key]'  # how pydantic calls the place of an error in a mapping's key
WRONG = 'option'  # kind of pydantic error that ``wrong`` makes


def wrong(key: str, text: str) -> PydanticCustomError:
    """The error of a check that looks at several keys.

    Args:
        key: Which of them is to be mended, relative to the section; dots lead into a section of it.
        text: What is wrong and the way out, to follow ``'SECTION.KEY: '``.
    """
    return PydanticCustomError(WRONG, '{text}', {'key': key, 'text': text})


def sentences(error: ValidationError, model: type[BaseModel], given: Any, section: str = '') -> list[str]:
    """What is wrong with a section, one sentence a key; unknown keys first, since they may be what others miss.

    Args:
        error: What pydantic found.
        model: The section.
        given: What stood in it.
        section: Where it stands in the option file; empty: it is the whole file.
    """
    found = error.errors(include_url=False)
    found.sort(key=lambda one: one['type'] != 'extra_forbidden')
    return list(dict.fromkeys(_sentence(one, model, given, section) for one in found))


def _sentence(error: Mapping[str, Any], model: type[BaseModel], given: Any, section: str) -> str:
    place = _Place(model, (), given, [section] if section else [])
    rest = list(error['loc'])
    if rest[-1:] == [KEY]:  # the name of an entry, not the entry
        *rest, name, _ = rest
        for key in rest:
            place = place.inner(key)
        return f'{place.name()}: a key must be {describe(get_args(place.annotation)[0], ())}, not {shown(name)}.'
    while rest and place.is_section():
        key = rest.pop(0)
        if place.has_arms():
            place = place.arm(key)
            continue
        if error['type'] == 'extra_forbidden' and not rest and key not in place.known():
            return unknown_option(place.name() or 'option file', key, place.known())
        place = place.inner(key)
    if error['type'] == WRONG:
        key, text = error['ctx']['key'], error['ctx']['text']
        return f'{".".join([*place.path, *([key] if key else [])])}: {text}'
    if error['type'] == 'missing' and not rest:
        return f'{place.name()}: missing; give {place.phrase()}.'
    if place.has_arms() and isinstance(place.value, Mapping):  # of no known type
        kind, kinds = place.value.get('type'), place.kinds()
        return f'{place.name()}.type: must be one of {", ".join(kinds)}, not {shown(kind)}.{nearest(kind, kinds)}'
    return f'{place.name() or "option file"}: must be {place.phrase()}, not {shown(place.value)}.'


class _Place:
    """A place in the tree of sections: what may stand there, what does, and where it is."""

    def __init__(self, annotation: Any, metadata: Sequence[Any], value: Any, path: list[str]) -> None:
        self._described = annotation, metadata
        self.annotation, _ = parts_of(annotation)
        self.value, self.path = value, path
        arms = [one for one in get_args(self.annotation) if one is not type(None)] if is_union(self.annotation) else []
        if len(arms) == 1:  # a section or null
            self.annotation, _ = parts_of(arms[0])
            arms = list(get_args(self.annotation)) if is_union(self.annotation) else []
        self.arms = {tag.tag: arm for arm in arms for tag in parts_of(arm)[1] if isinstance(tag, Tag)}

    def name(self) -> str:
        return '.'.join(self.path)

    def phrase(self) -> str:
        return describe(*self._described)

    def has_arms(self) -> bool:
        return bool(self.arms)

    def is_section(self) -> bool:
        """Whether errors lie deeper: in a section, in one of several, or in a mapping of them."""
        return is_section(self.annotation) or self.has_arms() or get_origin(self.annotation) is dict

    def arm(self, tag: str) -> _Place:
        return _Place(self.arms[tag], (), self.value, self.path)

    def known(self) -> list[str]:
        return list(self.annotation.model_fields) if is_section(self.annotation) else []

    def kinds(self) -> list[str]:
        arms = [parts_of(arm)[0].model_fields['type'].annotation for arm in self.arms.values()]
        return [kind for arm in arms for kind in get_args(arm)]

    def inner(self, key: str) -> _Place:
        value = self.value.get(key) if isinstance(self.value, Mapping) else getattr(self.value, str(key), None)
        path = [*self.path, str(key)]
        if get_origin(self.annotation) is dict:
            return _Place(get_args(self.annotation)[1], (), value, path)
        field = self.annotation.model_fields.get(key)
        if field is None:  # a free key of a section that takes any
            return _Place(Any, (), value, path)
        return _Place(field.annotation, field.metadata, value, path)
