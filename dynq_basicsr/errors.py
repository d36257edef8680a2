"""The one exception that users meet: a sentence that names the thing and the way out."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

SHOWN = 60  # characters of a value in a message
PATH = 250  # of a path, which is worth to be read to its end


class DynqError(Exception):
    """A failure that the user caused and can mend; its text is one self-contained sentence or two."""


class _Shortly(reprlib.Repr):
    """``repr`` that looks at no more of a value than it shows: lists may hold themselves a million times over."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 4
        self.maxstring = self.maxother = self.maxlong = SHOWN
        self.repr_OrderedDict = self.repr_dict  # by the name of the class

    def repr_int(self, x: int, level: int) -> str:
        """Numbers of thousands of digits have no ``repr``."""
        return super().repr_int(x, level) if x.bit_length() < 1000 else 'a huge number'


_SHORTLY = _Shortly()


def shown(value: object, most: int = SHOWN) -> str:
    """A user's value as messages show it, in a line.

    Args:
        value: Anything.
        most: Characters of its ``repr``; what is longer is cut.
    """
    text = repr(value[:most]) if isinstance(value, str) else ' '.join(_SHORTLY.repr(value).split())
    cut = len(text) > most or (isinstance(value, str) and len(value) > most)
    return f'{text[: most - 3]}...' if cut else text


def nearest(name: object, candidates: Iterable[str], count: int = 3) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest candidates, or an empty string.

    Args:
        name: What the user wrote.
        candidates: What exists.
        count: How many candidates to name at most.
    """
    name = name if isinstance(name, str) else shown(name)
    close = get_close_matches(name[:200], [str(candidate) for candidate in candidates], n=count, cutoff=0.5)
    return f' Did you mean {" or ".join(map(repr, close))}?' if close else ''


def unknown_option(section: str, key: object, known: Iterable[str]) -> str:
    """The sentence about a key that nobody reads.

    Args:
        section: Where it stands in the option file, as ``'network_g.policy'``.
        key: The key.
        known: Every key that may stand there.
    """
    known = list(known)
    hint = nearest(key, known) or f' Known: {", ".join(known)}.'
    return f'{section}: unknown option {shown(key)}.{hint}'


def check_keys(section: str, given: Mapping | None, known: Iterable[str]) -> None:
    """Refuse keys that nobody reads.

    Args:
        section: Where the keys stand in the option file, as ``'network_g.policy'``.
        given: The mapping from the option file; ``None`` counts as empty.
        known: Every key that may stand there.

    Raises:
        DynqError: If a key is unknown; names the key and its nearest match.
    """
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise DynqError(f'{section}: must be a mapping of options, not {shown(given)}.')
    known = list(known)
    for key in given:
        if key not in known:
            raise DynqError(unknown_option(section, key, known))


def check_number(section: str, value: object, lowest: float, highest: float = math.inf, whole: bool = False) -> None:
    """Refuse what is no number, or none within its bounds.

    Args:
        section: Where it stands, as ``'network_g.policy.ratio'``.
        value: What stands there.
        lowest: Smallest value allowed.
        highest: Largest value allowed.
        whole: Only integers are allowed.

    Raises:
        DynqError: Names the option, the value and the bounds.
    """
    kinds = int if whole else (int, float)
    fits = isinstance(value, kinds) and not isinstance(value, bool) and lowest <= value <= highest
    if not fits or value == math.inf:
        what = 'a whole number' if whole else 'a number'
        bounds = f'>= {lowest}' if math.isinf(highest) else f'from {lowest} to {highest}'
        raise DynqError(f'{section}: must be {what} {bounds}, not {shown(value)}.')


def check_positive(section: str, value: object) -> None:
    """Refuse what is no finite number above 0.

    Args:
        section: Where it stands, as ``'network_g.value_range'``.
        value: What stands there.

    Raises:
        DynqError: Names the option and the value.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise DynqError(f'{section}: must be a positive number, not {shown(value)}.')
