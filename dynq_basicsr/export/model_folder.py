"""Model folders: graphs, and the manifest that says what they are; written so that half a folder is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dynq_basicsr.atomic import NotWritten, flush, replacing_folder
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.choices import MANIFEST
from dynq_basicsr.runtime.manifest import FORMAT, sealed


class FolderWriter:
    """Collects the files of a model folder.

    Attributes:
        folder: Where they are until all is well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, content: bytes) -> dict[str, object]:
        """Write a file.

        Returns:
            ``file``, ``sha256`` and ``bytes`` for the manifest.
        """
        with open(self.folder / name, 'wb') as file:
            file.write(content)
            flush(file)
        return {'file': name, 'sha256': hashlib.sha256(content).hexdigest(), 'bytes': len(content)}

    def finish(self, manifest: Mapping) -> None:
        """Write the manifest, which makes the folder a model.

        Args:
            manifest: Plain values, all numbers finite.
        """
        values = sealed({**manifest, 'format': FORMAT})
        text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + '\n'
        self.add(MANIFEST, text.encode())


def check_target(target: str | Path, marks: Sequence[str] = (MANIFEST,)) -> None:
    """Refuse to replace what is no folder of ours.

    Args:
        target: Where a folder is to be.
        marks: Files of which a folder of ours has at least one.

    Raises:
        DynqError: If something else is there.
    """
    target = Path(target)
    if target.exists() and not target.is_dir():
        raise DynqError(f'{target}: is a file; name a folder for the model.')
    if target.is_dir() and any(target.iterdir()) and not any((target / mark).is_file() for mark in marks):
        raise DynqError(f'{target}: holds files, but no model (no {" or ".join(marks)}); name another folder.')


@contextmanager
def writing_folder(target: str | Path, marks: Sequence[str] = (MANIFEST,)) -> Iterator[FolderWriter]:
    """Write a model folder beside its place, and move it there when the block ends well.

    A folder that is a model already is replaced whole; whatever fails or interrupts leaves what was there.

    Args:
        target: Where the folder shall be; its parents are made.
        marks: See ``check_target``.

    Raises:
        DynqError: If something else is there, or it cannot be written.
    """
    check_target(target, marks)
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(target, error) from error
    with replacing_folder(target) as beside:
        yield FolderWriter(beside)
