"""Model folders: graphs, and the manifest that says what they are; written so that half a folder is none.

A list of the files that were written, with their checksums, lies in the folder, so that what the user put or changed
there is told from what may be replaced. ``sha256sum -c`` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dynq_basicsr.atomic import NotWritten, flush, followed, replacing_folder, write_whole
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.choices import MANIFEST
from dynq_basicsr.runtime.manifest import FORMAT, sealed

WRITTEN = 'dynq.sha256'
# What file managers leave wherever they look.
_NOBODY_S = ('.DS_Store', 'Thumbs.db', 'desktop.ini')
_PART = 2**20  # bytes that are read at once
_LINE = re.compile(r'(?P<sha256>[0-9a-f]{64})  (?P<name>[^/\\]+)')


class FolderWriter:
    """Collects the files of a model folder.

    Attributes:
        folder: Where they are until all is well.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: dict[str, str] = {}

    def add(self, name: str, content: bytes) -> dict[str, object]:
        """Write a file.

        Returns:
            ``file``, ``sha256`` and ``bytes`` for the manifest.
        """
        with open(self.folder / name, 'wb') as file:
            file.write(content)
            flush(file)
        self._written[name] = hashlib.sha256(content).hexdigest()
        return {'file': name, 'sha256': self._written[name], 'bytes': len(content)}

    def finish(self, manifest: Mapping) -> dict[str, object]:
        """Write the manifest, which makes the folder a model.

        Args:
            manifest: Plain values, all numbers finite.

        Returns:
            What ``add`` returns.
        """
        values = sealed({**manifest, 'format': FORMAT})
        text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + '\n'
        return self.add(MANIFEST, text.encode())

    def seal(self) -> None:
        """Write the list of all files."""
        self.add(WRITTEN, _list_of(self._written).encode())


def check_target(target: str | Path) -> None:
    """Refuse to replace what is no folder of ours, or holds what somebody else put or changed there.

    Args:
        target: Where a folder is to be.

    Raises:
        DynqError: Names a file that would be lost.
    """
    target = Path(target)
    try:
        if not target.exists():
            return
        if not target.is_dir():
            raise DynqError(f'{target}: is a file; name a folder for the model.')
        found = sorted(name for name in os.listdir(target) if name not in _NOBODY_S)
        written = _written(target)
        if found and not written:
            raise DynqError(
                f'{target}: holds {found[0]}, but is no model folder that may be replaced (no {WRITTEN} lists its '
                'files); name another folder.'
            )
        for name in found:
            if name != WRITTEN and name not in written:
                raise DynqError(
                    f'{target}: holds {name}, which was not written with the model and would be lost; move it, or name '
                    'another folder.'
                )
            if name != WRITTEN and not _is_as_written(target / name, written[name]):
                raise DynqError(
                    f'{target}: {name} was changed since it was written, and the change would be lost; move it, or '
                    'name another folder.'
                )
    except OSError as error:
        raise NotWritten(target, error) from error


def add_to_folder(folder: str | Path, name: str, content: bytes) -> None:
    """Write one more file, whole, to a folder of ours, as one that may be replaced with it.

    Args:
        folder: As ``writing_folder`` wrote it.
        name: Of the file.
        content: Of the file.

    Raises:
        NotWritten: If it cannot be written.
    """
    folder = Path(folder)
    written = {**_written(folder), name: hashlib.sha256(content).hexdigest()}
    # Listed first: a name that is not there yet is no reason to keep the folder, a file that is not listed is.
    write_whole(folder / WRITTEN, _list_of(written))
    write_whole(folder / name, content)


def _list_of(written: Mapping[str, str]) -> str:
    return ''.join(f'{digest}  {name}\n' for name, digest in sorted(written.items()))


def _written(folder: Path) -> dict[str, str]:
    """Name -> SHA-256 of what was written to a folder; empty: it is none of ours."""
    path = folder / WRITTEN
    if path.is_symlink() or not path.is_file():
        return {}
    lines = [_LINE.fullmatch(line) for line in path.read_text(encoding='utf-8', errors='replace').splitlines()]
    return {line['name']: line['sha256'] for line in lines} if all(lines) else {}


def _is_as_written(path: Path, digest: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    found = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(_PART):
            found.update(part)
    return found.hexdigest() == digest


@contextmanager
def writing_folder(target: str | Path) -> Iterator[FolderWriter]:
    """Write a model folder beside its place, and move it there when the block ends well.

    A folder that is a model already is replaced whole; whatever fails or interrupts leaves what was there.

    Args:
        target: Where the folder shall be; its parents are made. Of a link, where it leads.

    Raises:
        DynqError: If something else is there, or it cannot be written.
    """
    target = followed(target)
    check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(target, error) from error
    with replacing_folder(target) as beside:
        writer = FolderWriter(beside)
        yield writer
        writer.seal()
        check_target(target)  # somebody may have put something there meanwhile
