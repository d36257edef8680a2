"""Where images come from: folders and BasicSR's LMDBs, listed and read with errors that name them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import cv2
import lmdb

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import IMAGE_SUFFIXES

_SIZE = re.compile(r' \(\d+,\s*\d+(,\s*\d+)?\)( \d+)?$')  # and how hard an LMDB's image is packed


def counted(number: int, noun: str) -> str:
    """Return ``'1 image'`` or ``'2 images'``.

    Args:
        number: How many.
        noun: The singular of a regular noun.
    """
    return f'{number} {noun}{"" if number == 1 else "s"}'


def some(names: Iterable[str], most: int = 3) -> str:
    """Return the first few names in quotes, and how many more there are.

    Args:
        names: The names, in the order to be shown.
        most: How many to show.
    """
    names = list(names)
    more = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(map(repr, names[:most])) + more


def list_folder(folder: str, option: str) -> tuple[list[str], list[str]]:
    """List a folder of images, not its subfolders; hidden files do not count, as in BasicSR.

    Args:
        folder: The folder.
        option: The option that names it, for the errors.

    Returns:
        The sorted names of the images, told by their suffix, and of all other files.

    Raises:
        DynqError: If the folder is missing, is no folder, cannot be read or holds no file at all.
    """
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise DynqError(f'{option} is not set; name a folder of images there.')
    if not os.path.isdir(folder):
        state = 'is a file, not a folder' if os.path.exists(folder) else 'does not exist'
        raise DynqError(f'{option}: {str(folder)!r} {state}; point it at a folder of images.')
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if not entry.name.startswith('.') and entry.is_file())
    except OSError as error:
        raise DynqError(f'{option}: {str(folder)!r} cannot be read ({error.strerror}).') from error
    if not names:
        hint = ' (data.mdb files are read with io_backend: {type: lmdb})' if str(folder).endswith('.lmdb') else ''
        raise DynqError(f'{option}: {str(folder)!r} is empty; point it at a folder of images{hint}.')
    images = [name for name in names if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES]
    chosen = set(images)
    return images, [name for name in names if name not in chosen]


def strays(folder: str, others: Iterable[str]) -> list[str]:
    """Return those files that OpenCV would not decode either, whatever their suffix.

    Args:
        folder: The folder.
        others: Names of files without one of ``IMAGE_SUFFIXES``.
    """
    return [name for name in others if not cv2.haveImageReader(os.path.join(folder, name))]


def lmdb_keys(root: str, option: str) -> list[str]:
    """List the keys of one of BasicSR's LMDBs in the order of its ``meta_info.txt``.

    A key is the image name without its extension; dots and spaces inside the name belong to it.

    Args:
        root: The folder ``NAME.lmdb``.
        option: The option that names it, for the errors.

    Raises:
        DynqError: If the name does not end in ``.lmdb``, or the folder, ``data.mdb`` or ``meta_info.txt`` is missing,
            or nothing is listed.
    """
    if not isinstance(root, (str, os.PathLike)) or not str(root).endswith('.lmdb'):
        raise DynqError(f'{option}: {root!r} does not end in .lmdb; name an LMDB made by BasicSR there, '
                        'or set io_backend: {type: disk}.')
    if not os.path.isdir(root):
        raise DynqError(f'{option}: {str(root)!r} does not exist; point it at an LMDB made by BasicSR.')
    for part in ('data.mdb', 'meta_info.txt'):
        if not os.path.isfile(os.path.join(root, part)):
            raise DynqError(f'{option}: {str(root)!r} has no {part}; make the LMDB again with BasicSR.')
    return [os.path.splitext(name)[0] for name in listed_names(os.path.join(root, 'meta_info.txt'), option)]


def listed_names(file: str, option: str) -> list[str]:
    """Read which images a meta-information file of BasicSR's lists, one a line: ``my photo.png (480,480,3)``.

    The size may be absent; blank lines do not count.

    Args:
        file: The file.
        option: The option that names it, for the errors.

    Raises:
        DynqError: If it cannot be read, or lists nothing.
    """
    try:
        with open(file, encoding='utf-8-sig', errors='surrogateescape') as lines:  # as Python takes names of files
            names = [_SIZE.sub('', line.strip()) for line in lines if line.strip()]
    except OSError as error:
        raise DynqError(f'{option}: {file} cannot be read ({error}).') from error
    if not names:
        raise DynqError(f'{option}: {file} lists no image; list one a line.')
    return names


def missing_key(root: str, key: str) -> DynqError:
    """Return the error for a key that ``meta_info.txt`` lists and the database lacks.

    Args:
        root: The folder ``NAME.lmdb``.
        key: The key.
    """
    return DynqError(f'key {key!r} is not in the database {str(root)!r}, though its meta_info.txt lists it; make the '
                     'LMDB again (BasicSR\'s own data sets also cut names at their first dot).')


def cannot_open(root: str, error: Exception) -> DynqError:
    """Return the error for an LMDB that does not open.

    Args:
        root: The folder ``NAME.lmdb``, or several.
        error: What the lmdb package said.
    """
    if 'already open' in str(error):
        return DynqError(f'{root}: an LMDB can be open only once in a process; give each data set an LMDB of its own, '
                         'or num_worker_per_gpu: 1 to the training set.')
    return DynqError(f'{root}: the LMDB cannot be opened ({error}); make it again with BasicSR.')


def read_file(path: str, most: int | None = None) -> bytes:
    """Return the bytes of a file.

    Args:
        path: The file.
        most: How many, from its beginning; None: all.

    Raises:
        DynqError: If it cannot be read.
    """
    try:
        with open(path, 'rb') as file:
            return file.read(most)
    except OSError as error:
        raise DynqError(f'{path}: the image cannot be read ({error.strerror}); restore it or remove it from the '
                        'list.') from error


def read_lmdb(root: str, keys: Iterable[str], most: int | None = None) -> Iterator[bytes]:
    """Yield the encoded images of some keys; the database is closed afterwards, so it can be opened elsewhere.

    Args:
        root: The folder ``NAME.lmdb``.
        keys: The keys.
        most: How many bytes of each, from its beginning; None: all.

    Raises:
        DynqError: If the database does not open, or lacks a key.
    """
    try:
        environment = lmdb.open(str(root), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise cannot_open(root, error) from error
    with environment, environment.begin(write=False, buffers=True) as transaction:
        for key in keys:
            content = transaction.get(key.encode())
            if content is None:
                raise missing_key(root, key)
            yield bytes(content[:most])
