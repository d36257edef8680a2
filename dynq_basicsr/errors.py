"""The one exception that users meet: a sentence that names the thing and the way out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches


class DynqError(Exception):
    """A failure that the user caused and can mend; its text is one self-contained sentence or two."""


def nearest(name: str, candidates: Iterable[str], count: int = 3) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest candidates, or an empty string.

    Args:
        name: What the user wrote.
        candidates: What exists.
        count: How many candidates to name at most.
    """
    close = get_close_matches(str(name), [str(candidate) for candidate in candidates], n=count, cutoff=0.5)
    return f' Did you mean {" or ".join(map(repr, close))}?' if close else ''


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
        raise DynqError(f'{section}: expected a mapping of options, got {given!r}.')
    known = list(known)
    for key in given:
        if key not in known:
            raise DynqError(f'{section}: unknown option {key!r}.{nearest(key, known) or f" Known: {known}."}')


def check_choice(section: str, value: object, choices: Iterable[str]) -> str:
    """Return the value, or refuse what is none of the choices.

    Args:
        section: Where it stands in the option file, as ``'train.precision'``.
        value: What stands there.
        choices: What may stand there.

    Raises:
        DynqError: Names the option, the value and the choices.
    """
    choices = tuple(choices)
    if value not in choices:
        raise DynqError(f'{section}: must be one of {", ".join(choices)}, not {value!r}.')
    return value


def check_switch(section: str, value: object) -> None:
    """Refuse what is neither true nor false.

    Args:
        section: Where it stands in the option file, as ``'train.bit_aware_clipping'``.
        value: What stands there.

    Raises:
        DynqError: Names the option and the value.
    """
    if not isinstance(value, bool):
        raise DynqError(f'{section}: must be true or false, not {value!r}.')


def check_number(section: str, value: object, lowest: float, highest: float = math.inf, whole: bool = False) -> None:
    """Refuse what is no number, or none within its bounds.

    Args:
        section: Where it stands in the option file, as ``'train.lr.weight'``.
        value: What stands there.
        lowest: Smallest value allowed.
        highest: Largest value allowed.
        whole: Only integers are allowed.

    Raises:
        DynqError: Names the option, the value and the bounds.
    """
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not lowest <= value <= highest or math.isinf(value):
        what = 'a whole number' if whole else 'a number'
        bounds = f'>= {lowest}' if math.isinf(highest) else f'from {lowest} to {highest}'
        raise DynqError(f'{section}: must be {what} {bounds}, not {value!r}.')
