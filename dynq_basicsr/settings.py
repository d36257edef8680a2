"""What the front door takes: one list for the function of Python, for the command, and for the work behind them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import wraps
from os import PathLike
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from dynq_basicsr.errors import DynqError, check_number, check_positive, shown, unknown_option

if TYPE_CHECKING:
    from torch import device as Device
    from torch import nn

P = ParamSpec('P')
S = TypeVar('S')
R = TypeVar('R')


@dataclass(frozen=True, eq=False)
class Settings:
    """What to quantize, and how; ``dynq_basicsr.quantize`` explains each.

    Raises:
        DynqError: If a number is out of its range.
    """

    model: str | PathLike[str] | nn.Module
    images: object
    _: KW_ONLY
    bits: int = 4
    weight_bits: int | None = None
    method: str = 'adabm'
    recipe: str | None = None
    scope: str = 'body'
    calibration: int = 100
    device: str | Device = 'auto'
    arch: Mapping[str, object] | None = None
    scale: int | None = None
    value_range: float | None = None
    output: int | str | None = None
    plugins: Sequence[str | PathLike[str]] = ()
    seed: int = 1
    work: str | PathLike[str] | None = None
    exports: bool = False

    def __post_init__(self) -> None:
        for name, low, high in (
            ('bits', 2, 8), ('weight_bits', 2, 8), ('calibration', 1, 10**6), ('scale', 1, 64), ('seed', 0, 2**31 - 1),
        ):  # fmt: skip
            if getattr(self, name) is not None or name not in ('weight_bits', 'scale'):
                check_number(name, getattr(self, name), low, high, whole=True)
        if self.value_range is not None:
            check_positive('value_range', self.value_range)
        if isinstance(self.output, bool) or not isinstance(self.output, int | str | None):
            raise DynqError(f'output: must be the index or the key of the image, not {shown(self.output)}.')


def taking(settings: Callable[P, S]) -> Callable[[Callable[[S], R]], Callable[P, R]]:
    """Let a function of settings be called with their fields, whose names, types and defaults it then shows.

    Args:
        settings: The class.
    """

    def decorate(action: Callable[[S], R]) -> Callable[P, R]:
        @wraps(action)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for key in kwargs:
                if key not in signature.parameters:
                    raise DynqError(unknown_option(action.__name__, key, signature.parameters))
            signature.bind(*args, **kwargs)  # whose errors do not speak of a class
            return action(settings(*args, **kwargs))

        returned = inspect.signature(action).return_annotation
        signature = inspect.signature(settings).replace(return_annotation=returned)
        call.__signature__ = signature  # type: ignore[attr-defined]
        return call

    return decorate
