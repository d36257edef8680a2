"""Content-adaptive bit-widths for super-resolution networks, as a BasicSR plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynq_basicsr.api import load, quantize

__all__ = ['__version__', 'load', 'quantize']
__version__ = '0.1.0'


def __getattr__(name: str) -> object:
    """The Python interface, imported when it is first asked for: it needs torch, the package does not."""
    if name not in ('load', 'quantize'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    value = getattr(import_module(f'{__name__}.api'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
