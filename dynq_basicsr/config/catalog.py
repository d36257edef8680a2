"""What sections and keys there are in an option file, in order, with what the reference says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from dynq_basicsr.config.phrases import describe, is_section, is_union, parts_of
from dynq_basicsr.config.run import RUNS, RunOptions
from dynq_basicsr.config.section import Section, kinds_of

NOTHING = '–'  # the default of what must be given, or does nothing where it is left out


@dataclass(frozen=True)
class Entry:
    """One key of the option file.

    Attributes:
        key: With dots, as ``'train.lr.weight'``; ``NAME`` stands for a name that the user chooses.
        values: What it may hold.
        default: What it is where it is left out, as YAML has it, or ``NOTHING``.
        meaning: One sentence.
    """

    key: str
    values: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Part:
    """A section at its place in the option file.

    Attributes:
        key: With dots; empty for the whole file.
        section: Its class.
        kinds: Where several sections may stand there: the values of ``type`` with which this one does.
        models: Where it depends on the model: the values of ``model_type`` with which it may stand there.
    """

    key: str
    section: type[Section]
    kinds: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Key, and when the section may stand there."""
        kinds, models = ' or '.join(self.kinds), ' or '.join(self.models)
        when = ' in a run of '.join(filter(None, (kinds, models)))
        return f'{self.key}: {when}' if when else self.key

    @property
    def entries(self) -> list[Entry]:
        """Its keys."""
        fields = _fields(self.section).items()
        return [
            _entry(f'{self.key}.{name}' if self.key else name, field, chooses=name == 'type' and bool(self.kinds))
            for name, field in fields
        ]


def parts() -> list[Part]:
    """All sections in the order of an option file, each once."""
    found: dict[tuple, Part] = {}
    trains = [
        replace(part, models=(name,))
        for name, run in RUNS.items()
        for section in _sections(run.model_fields['train'].annotation)
        for part in _parts(Part('train', section))
    ]
    for part in [*_parts(Part('', RunOptions)), *trains]:
        before = found.get((part.key, part.section))
        models = part.models if before is None else (*before.models, *part.models)
        found[part.key, part.section] = replace(part, models=models if part.key else ())
    return list(found.values())


def _fields(section: type[Section]) -> dict[str, FieldInfo]:
    """Those that the reference tells of; ``train`` depends on the model and is told by itself."""
    left_out = ('train',) if section is RunOptions else ()
    return {key: one for key, one in section.model_fields.items() if key not in left_out and not one.exclude}


def _parts(part: Part) -> Iterator[Part]:
    """A section and those in it."""
    yield part
    for name, field in _fields(part.section).items():
        key = f'{part.key}.{name}' if part.key else name
        sections = _sections(field.annotation)
        for one in sections:
            kinds = (kinds_of(one) or ('other types',)) if len(sections) > 1 else ()
            yield from _parts(Part(f'{key}.NAME' if _is_mapping(field.annotation) else key, one, kinds))


def _is_mapping(annotation: Any) -> bool:
    kinds = get_args(annotation) if is_union(annotation) else [annotation]
    return any(get_origin(parts_of(one)[0]) is dict for one in kinds)


def _sections(annotation: Any) -> list[type[Section]]:
    """The sections that may stand at a place."""
    annotation, _ = parts_of(annotation)
    if is_section(annotation):
        return [annotation]
    if not is_union(annotation) and get_origin(annotation) is not dict:
        return []
    return [section for one in get_args(annotation) for section in _sections(one)]


def _entry(key: str, field: FieldInfo, chooses: bool) -> Entry:
    """A key; ``chooses``: which section stands there, so it must be given."""
    absent = chooses or field.is_required() or (field.default is None and type(None) not in get_args(field.annotation))
    default = NOTHING if absent else _value(field.default)
    return Entry(key, describe(field.annotation, field.metadata), default, field.description or '')


def _value(value: Any) -> str:
    """A default as YAML has it."""
    if isinstance(value, Section):
        return value.type if 'type' in type(value).model_fields else 'as below'
    if isinstance(value, tuple):
        return f'[{", ".join(map(_value, value))}]'
    if value is None:
        return 'null'
    return str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else str(value)
