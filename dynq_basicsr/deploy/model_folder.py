"""Model folders: graphs, and the manifest that says what they are; written so that half a folder is none."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dynq_basicsr.deploy.manifest import FORMAT, NAME
from dynq_basicsr.errors import DynqError


class FolderWriter:
    """Collects the files of a model folder.

    Attributes:
        folder: Where they are until all is well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, content: bytes) -> dict[str, str]:
        """Write a file.

        Returns:
            ``file`` and ``sha256`` for the manifest.
        """
        with open(self.folder / name, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return {'file': name, 'sha256': hashlib.sha256(content).hexdigest()}

    def finish(self, manifest: Mapping) -> None:
        """Write the manifest, which makes the folder a model."""
        text = json.dumps({'format': FORMAT, **manifest}, indent=2, sort_keys=True, ensure_ascii=False) + '\n'
        self.add(NAME, text.encode())


@contextmanager
def writing_folder(target: str | Path) -> Iterator[FolderWriter]:
    """Write a model folder beside its place, and move it there when the block ends well.

    A folder that is a model already is replaced whole; whatever fails or interrupts leaves what was there.

    Args:
        target: Where the folder shall be; its parents are made.

    Raises:
        DynqError: If something else is there.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise DynqError(f'{target}: is a file; name a folder for the model.')
    if target.is_dir() and any(target.iterdir()) and not (target / NAME).is_file():
        raise DynqError(f'{target}: holds files, but no model (no {NAME}); name another folder.')
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f'.{target.name}.{uuid.uuid4().hex[:8]}.tmp')
    beside.mkdir()
    try:
        writer = FolderWriter(beside)
        yield writer
        _put_in_place(beside, target)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _put_in_place(beside: Path, target: Path) -> None:
    if target.is_dir() and any(target.iterdir()):
        before = beside.with_suffix('.old')
        target.rename(before)
        try:
            beside.rename(target)
        except OSError:
            before.rename(target)
            raise
        shutil.rmtree(before, ignore_errors=True)
    else:
        if target.is_dir():
            target.rmdir()
        beside.rename(target)
