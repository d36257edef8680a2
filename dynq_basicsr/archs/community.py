"""The optional package spandrel: architectures of community checkpoints."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from dynq_basicsr.errors import DynqError


def import_spandrel(module: str = 'spandrel') -> ModuleType:
    """Import spandrel or one of its modules, only when a network needs it.

    Args:
        module: Its dotted name.

    Raises:
        DynqError: If spandrel is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DynqError(
            f"network_g: the types HAT and Spandrel need spandrel ({error}); pip install 'dynq_basicsr[community]'."
        ) from error
