"""What all sections of an option file have in common: read strictly, and every refusal is one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Tag, ValidationError

from dynq_basicsr.config.problems import sentences
from dynq_basicsr.errors import DynqError

OTHER = 'other'  # tag of the section that takes every type that is none of ours

T = TypeVar('T', bound='Section')


@dataclass(frozen=True)
class Facts:
    """What a check wants to know that no option file says.

    Attributes:
        is_train: Whether the options are for training.
        cuda: Whether there is a CUDA device.
        files: Whether data and checkpoints that are named must exist.
    """

    is_train: bool = False
    cuda: bool = False
    files: bool = False


class Section(BaseModel):
    """A section of an option file; its fields are the keys that may stand there.

    Attributes:
        section: Where it stands in the option file, as ``'network_g.quantization'``; for messages.
    """

    model_config = ConfigDict(extra='forbid', frozen=True, protected_namespaces=())
    section: ClassVar[str] = ''

    @classmethod
    def from_dict(cls: type[T], given: Mapping | None, section: str | None = None, facts: Facts | None = None) -> T:
        """Read the section.

        Args:
            given: What stands in the option file; ``None`` counts as empty.
            section: Where it stands, if not at ``cls.section``.
            facts: About this machine and this run.

        Raises:
            DynqError: Names the first key that is unknown or holds an impossible value, what it may be, and how many
                more there are.
        """
        if isinstance(given, cls):
            return given
        given = {} if given is None else dict(given) if isinstance(given, Mapping) else given
        try:
            return cls.model_validate(given, context=facts or Facts())
        except ValidationError as error:
            found = sentences(error, cls, given, cls.section if section is None else section)
        more = f' ({len(found) - 1} more to mend.)' if len(found) > 1 else ''
        raise DynqError(found[0] + more)


def facts_of(info: Any) -> Facts:
    """The facts that a validator is told (``ValidationInfo``); none where a section is made by itself."""
    return info.context or Facts()


# Registered names may carry this suffix, in BasicSR's registries and so in option files.
AsRegistered = BeforeValidator(lambda kind: kind.removesuffix('_basicsr') if isinstance(kind, str) else kind)


def kinds_of(section: type[Section]) -> tuple[str, ...]:
    """The values that the key ``type`` of a section may have."""
    return get_args(section.model_fields['type'].annotation)


def by_type(*sections: type[Section], other: type[Section] | None = None) -> Any:
    """The annotation of a field that holds one of several sections, as its key ``type`` says.

    Args:
        *sections: Their ``type`` is a ``Literal``.
        other: For every other type; None: there is no other.
    """
    tags = {kind: section.__name__ for section in sections for kind in kinds_of(section)}
    arms = [Annotated[section, Tag(section.__name__)] for section in sections]
    if other is not None:
        arms.append(Annotated[other, Tag(OTHER)])
    return Annotated[Union[tuple(arms)], Discriminator(_tagger(tags, OTHER if other else None))]  # noqa: UP007


def _tagger(tags: Mapping[str, str], otherwise: str | None) -> Callable[[Any], str | None]:
    def tag(value: Any) -> str | None:
        if isinstance(value, Section):
            name = type(value).__name__
            return name if name in tags.values() else otherwise
        kind = value.get('type') if isinstance(value, Mapping) else None
        return tags.get(kind.removesuffix('_basicsr'), otherwise) if isinstance(kind, str) else otherwise

    return tag
