"""The optional extra ``deploy``: what to say where it is not installed."""

from __future__ import annotations

from importlib.util import find_spec

from dynq_basicsr.errors import DynqError


def require(*modules: str) -> None:
    """Check that modules of the extra can be imported.

    Args:
        modules: Names, as ``'onnx'``.

    Raises:
        DynqError: Names what is missing and how to install it.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise DynqError(f"{', '.join(missing)}: not installed; run `pip install 'dynq_basicsr[deploy]'`.")
