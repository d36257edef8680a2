"""What checkpoints say of their own networks, believed only as far as the file itself bears it out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dynq_basicsr.errors import DynqError, shown

PARTS = ('backbone', 'quantization', 'policy')
FORMAT = ('value_range', 'output')  # of the backbone's images
_DEPTH, _ENTRIES, _LETTERS, _LARGEST = 8, 10_000, 4096, 2**20
# Of a network that is built: elements besides those that the file holds (masks, indices, room for a step of their
# making), operations besides those for each of the file's tensors.
_MORE_ELEMENTS, _MORE_OPERATIONS = 2**26, 20_000
_SHARE, _OPERATIONS = 16, 500


def check_description(path: str | Path, description: object) -> dict[str, Any]:
    """The description that a checkpoint carries, if it is one of ours.

    Args:
        path: The file, for errors.
        description: What stands under ``description``.

    Returns:
        Its parts; empty where it is none.

    Raises:
        DynqError: If a value is no plain one, or absurdly large.
    """
    if not isinstance(description, Mapping) or not set(PARTS) & {key for key in description if isinstance(key, str)}:
        return {}
    left = [_ENTRIES]
    try:
        for key, value in description.items():
            _check_plain(str(key), value, left)
        for part in PARTS:
            if not isinstance(description.get(part), Mapping | None):
                raise ValueError(f'{part} is {shown(description[part])}')
        backbone = description.get('backbone')
        if backbone and not isinstance(backbone.get('type'), str):
            raise ValueError(f'backbone.type is {shown(backbone.get("type"))}')
    except ValueError as error:
        raise DynqError(
            f'{path}: what it says of its network cannot be ({error}); take another checkpoint, or give network_g in '
            'full.'
        ) from error
    return dict(description)


def _check_plain(name: str, value: object, left: list[int], depth: int = 0) -> None:
    left[0] -= 1
    if depth > _DEPTH or left[0] < 0:
        raise ValueError('it is too deep or too long')
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(key, str):
                raise ValueError(f'{name} has the key {shown(key)}')
            _check_plain(f'{name[-80:]}.{key[:80]}', one, left, depth + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            _check_plain(name, one, left, depth + 1)
    elif isinstance(value, bool | None):
        return
    elif isinstance(value, int | float):
        if not abs(value) <= _LARGEST:  # NaN is not, either
            raise ValueError(f'{name} is {shown(value)}')
    elif not isinstance(value, str) or len(value) > _LETTERS:
        raise ValueError(f'{name} is {shown(value)}')


class BuildingLimit(TorchDispatchMode):
    """Ends the building of a network that is far larger than the checkpoint that it is built for.

    It watches what is made within its ``with`` block; numbers in a checkpoint, and in names of its tensors, decide how
    many layers of what width a constructor makes.

    Args:
        path: The checkpoint, for the error.
        state: What it holds.

    Raises:
        DynqError: From the constructor, where it goes beyond.
    """

    def __init__(self, path: str | Path, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._path = path
        self._elements = _SHARE * sum(value.numel() for value in state.values()) + _MORE_ELEMENTS
        self._operations = _OPERATIONS * len(state) + _MORE_OPERATIONS

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Count an operation, and the elements of a tensor that is made from nothing."""
        kwargs = kwargs or {}
        self._operations -= 1
        if not any(isinstance(one, Tensor) for one in args):
            self._elements -= max((_elements(one) for one in args), default=0)
        if self._operations < 0 or self._elements < 0:
            raise DynqError(
                f'{self._path}: asks for a network that is far larger than what the file holds; take another '
                'checkpoint, or give network_g in full.'
            )
        return func(*args, **kwargs)


def _elements(argument: object) -> float:
    """How many elements a creating operation makes at most, as far as one of its arguments says."""
    if isinstance(argument, list | tuple):
        return abs(math.prod(one for one in argument if isinstance(one, int | float)))
    return abs(argument) if isinstance(argument, int | float) else 0
