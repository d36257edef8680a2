"""Files that are whole or not there, whatever interrupts their writing; imports neither torch nor BasicSR.

What is being written has a name that tells whose it is, ``.NAME.PID-xxxxxxxx.tmp``, so that ``sweep`` can remove what a
killed process left and spare what a living one is at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from uuid import uuid4

from dynq_basicsr.errors import DynqError

# Process, four digits of its machine, four digits by chance; ``old`` is what a folder was before it was replaced.
_TEMPORARY = re.compile(
    r'\.(?P<name>.+)\.(?P<pid>[1-9]\d{0,9})-(?P<host>[0-9a-f]{4})[0-9a-f]{4}\.(?P<kind>tmp|old)', re.DOTALL
)
_LONGEST = 200  # bytes of the name that a temporary one keeps; file systems take 255
_FOREIGN_AGE = 24 * 3600.0  # seconds after which what a process of another machine left counts as left behind
# Windows refuses to replace a file while a virus scanner or an indexer looks at it: seconds to wait between trials.
_PAUSES = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8) if os.name == 'nt' else ()
# Not every file system can flush a folder; where it can, a failure counts.
_UNABLE = (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES, errno.EPERM)


class NotWritten(DynqError):
    """A file or folder could not be written; what is there is what was there before, or the new one, whole.

    Args:
        target: Which.
        error: The reason.
        aside: Where a folder of before is that could not be put back.

    Attributes:
        errno: The system's number for the reason.
    """

    def __init__(self, target: str | Path, error: OSError, aside: Path | None = None) -> None:
        reason = error.strerror or str(error) or type(error).__name__
        state = f'What was there is {aside}; the next command that writes there puts it back' if aside else (
            'What is there is whole'
        )  # fmt: skip
        super().__init__(
            f'{target}: cannot be written ({reason}); make room, or check the path and its permissions. {state}.'
        )
        self.errno = error.errno


@contextlib.contextmanager
def replacing(target: str | Path) -> Iterator[IO[bytes]]:
    """Write a file beside its place, flush it to the disk, and put it there when the block ends well.

    A crash, a kill or a full disk at any moment leaves the file that was there before, or the new one, never a part.

    Args:
        target: The file; its folder exists. Of a link, the file that it leads to is replaced.

    Yields:
        A file to write the content to.

    Raises:
        NotWritten: If it cannot be written; whatever the block raises besides is passed on.
    """
    target = followed(target)
    temporary = temporary_beside(target)
    try:
        with _removed_on_failure(temporary):
            with open(temporary, 'xb') as file:
                yield file
                flush(file)
            move(temporary, target)
        flush_folder(target.parent)
    except OSError as error:
        raise NotWritten(target, error) from error


def write_whole(target: str | Path, content: bytes | memoryview | str) -> None:
    """Write a file whole or not at all, see ``replacing``.

    Args:
        target: The file; its folder exists.
        content: Text is encoded as UTF-8, its line ends as they are; what of a file's name is no Unicode is escaped.

    Raises:
        NotWritten: If it cannot be written.
    """
    with replacing(target) as file:
        file.write(content.encode(errors='backslashreplace') if isinstance(content, str) else content)


@contextlib.contextmanager
def replacing_folder(target: str | Path) -> Iterator[Path]:
    """Fill a folder beside its place, and put it there when the block ends well; what is there is replaced whole.

    Two renames do it. A process that is killed between them leaves the folder of before under its temporary name;
    ``sweep`` puts it back.

    Args:
        target: The folder; its parent exists. Of a link, the folder that it leads to is replaced.

    Yields:
        The folder to fill; files in it are to be flushed by who writes them.

    Raises:
        NotWritten: If it cannot be written; whatever the block raises besides is passed on.
    """
    target = followed(target)
    sweep(target.parent)
    beside = temporary_beside(target)
    try:
        with _removed_on_failure(beside):
            beside.mkdir()
            yield beside
            flush_folder(beside)
            _put_in_place(beside, target)
        flush_folder(target.parent)
    except OSError as error:
        raise NotWritten(target, error) from error


def followed(target: str | Path) -> Path:
    """Where a path leads: of a symbolic link its end, else the path as it is."""
    target = Path(target)
    return Path(os.path.realpath(target)) if target.is_symlink() else target


def temporary_beside(target: Path) -> Path:
    """A name in the same folder that nobody else uses, and that ``sweep`` recognises."""
    name = os.fsdecode(os.fsencode(target.name)[:_LONGEST])
    return target.with_name(f'.{name}.{os.getpid()}-{_host()}{uuid4().hex[:4]}.tmp')


def flush(file: IO[bytes]) -> None:
    """Have the content of an open file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can."""
    if os.name == 'nt':  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    finally:
        os.close(descriptor)


def move(source: Path, target: Path) -> None:
    """Rename, replacing a file; patient where another program holds one of both for a moment."""
    for pause in _PAUSES:
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(pause)
    os.replace(source, target)


def sweep(folder: str | Path) -> None:
    """Remove what killed processes left in a folder; writers call it when they start.

    A folder that was about to be replaced, and is missing now, gets its name back. What belongs to a living process of
    this machine stays, and so does what one of another machine touched within a day. What cannot be removed stays, too.

    Args:
        folder: Not searched any deeper; may be missing.
    """
    try:
        with os.scandir(folder) as entries:
            found = [(entry, match) for entry in entries if (match := _TEMPORARY.fullmatch(entry.name))]
    except OSError:
        return
    for entry, match in found:
        with contextlib.suppress(OSError):
            if not _is_left_behind(entry, match):
                continue
            origin = Path(folder) / match['name']
            if match['kind'] == 'old' and not origin.exists():
                os.replace(entry.path, origin)
            else:
                _remove(Path(entry.path))


def sweep_below(folder: str | Path) -> None:
    """``sweep`` a folder and all folders below it.

    Args:
        folder: May be missing.
    """
    for place, _, _ in os.walk(folder):
        sweep(place)


def _put_in_place(beside: Path, target: Path) -> None:
    if not target.is_dir():
        return move(beside, target)
    if not any(target.iterdir()):
        target.rmdir()
        return move(beside, target)
    before = beside.with_suffix('.old')
    move(target, before)
    try:
        move(beside, target)
    except BaseException:
        try:
            os.replace(before, target)
        except OSError as error:
            raise NotWritten(target, error, before) from error
        raise
    _remove(before)


@contextlib.contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _host() -> str:
    """Four hexadecimal digits that stand for this machine."""
    return f'{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}'


def _is_left_behind(entry: os.DirEntry, match: re.Match) -> bool:
    if match['host'] == _host():
        return not is_alive(int(match['pid']))
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > _FOREIGN_AGE


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs; in doubt, it does.

    Args:
        pid: Its number, > 0.
    """
    if sys.platform == 'win32':  # where os.kill would end it
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def _is_alive_on_windows(pid: int) -> bool:
    import ctypes

    query, denied, still_active = 0x1000, 5, 259
    kernel = ctypes.WinDLL('kernel32', use_last_error=True)
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(query, False, ctypes.c_uint32(pid))
    if not handle:
        return ctypes.get_last_error() == denied
    try:
        code = ctypes.c_uint32()
        return not kernel.GetExitCodeProcess(ctypes.c_void_p(handle), ctypes.byref(code)) or code.value == still_active
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))
