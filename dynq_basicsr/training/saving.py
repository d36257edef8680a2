"""Checkpoints that are whole or not there, with a checksum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dynq_basicsr.atomic import sweep, write_whole
from dynq_basicsr.backbones.torch_files import to_bytes


def save_atomically(content: Mapping, path: str | Path) -> None:
    """``torch.save``, whole or not at all; what killed processes left in the folder is removed first.

    Args:
        content: What to save: tensors and plain values, for ``torch_files.read_torch_file``; BasicSR reads it, too.
        path: Where to; its folder exists.

    Raises:
        NotWritten: If it cannot be written; names the path. Earlier checkpoints are untouched.
    """
    sweep(Path(path).parent)
    write_whole(path, to_bytes(content))
