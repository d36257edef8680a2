"""Checkpoints that are whole or not there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch

from dynq_basicsr.errors import DynqError


def save_atomically(content: Mapping, path: str | Path) -> None:
    """``torch.save`` under a temporary name, flush to disk, then rename.

    A crash, a kill or a full disk at any moment leaves the file that was there before, or the new one, never a part.

    Args:
        content: What to save.
        path: Where to.

    Raises:
        DynqError: If it cannot be written; names the path.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    try:
        with open(temporary, 'wb') as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise DynqError(
            f'{path}: cannot be saved ({reason}); free some space or check the permissions, then resume. '
            'Earlier checkpoints are untouched.'
        ) from error
