"""What a command says where something that it needs is not installed: one sentence with the command that brings it."""

from __future__ import annotations

from dynq_basicsr.doctor.parts import BY_MODULE, MANY, USES, Part, cure, missing
from dynq_basicsr.errors import DynqError


def require(*modules: str) -> None:
    """Check that packages are installed; nothing is imported.

    Args:
        modules: As they are imported, of those in ``parts.PARTS``: ``'onnx'``.

    Raises:
        DynqError: Names what is missing and the command that brings it.
    """
    _refuse(missing(tuple(BY_MODULE[module].module for module in modules)))


def require_basicsr() -> None:
    """Check that BasicSR and all that it needs are installed, as quantizing, training and evaluation want it.

    Raises:
        DynqError: Names what is missing and the commands that bring it.
    """
    _refuse(missing(USES['quantize and train']), 'quantize and train')


def _refuse(parts: list[Part], use: str = '') -> None:
    if parts:
        names = ', '.join(part.name for part in parts[:MANY])
        names += f' and {len(parts) - MANY} more' if len(parts) > MANY else ''
        state = 'not installed' if not all(part.found for part in parts) else 'another version is needed'
        raise DynqError(f'{names}: {state}; run `{cure(parts, use)}`.'.replace(', then ', '`, then `'))
