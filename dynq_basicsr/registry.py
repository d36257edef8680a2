"""Plug-ins by name: policies and quantizers of option files, decision rules of model folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from dynq_basicsr.errors import DynqError, nearest, shown

T = TypeVar('T', bound=Callable)


class Registry(Generic[T]):
    """Classes or functions of one kind, by name.

    Args:
        kind: What they are, for errors: ``'policy'``.
        section: Where users name one: ``'network_g.policy.type'``.
    """

    def __init__(self, kind: str, section: str) -> None:
        self.kind, self.section = kind, section
        self._classes: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters a class or a function.

        Args:
            name: How users call it.

        Raises:
            DynqError: If another one has that name.
        """

        def enter(cls: T) -> T:
            known = self._classes.get(name)
            # A module that is imported anew (a notebook's reload) brings the same class again.
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise DynqError(
                    f'{self.kind} {name!r} is registered twice, by {known.__module__} and by {cls.__module__}; give '
                    'one of them another name.'
                )
            self._classes[name] = cls
            return cls

        return enter

    def __getitem__(self, name: object) -> T:
        """What has that name.

        Raises:
            DynqError: If there is none; names the nearest.
        """
        if name not in self:
            raise DynqError(
                f'{self.section}: no {self.kind} {shown(name)}.{nearest(name, self._classes)} Known: {", ".join(self)}.'
            )
        return self._classes[name]

    def __contains__(self, name: object) -> bool:
        """Whether the name is registered."""
        return isinstance(name, str) and name in self._classes

    def __iter__(self) -> Iterator[str]:
        """The names, in the order of registration."""
        return iter(self._classes)
