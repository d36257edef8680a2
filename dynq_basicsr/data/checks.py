"""BasicSR's own data sets fail with a sentence that names the file; good images come out unchanged.

Two seams carry it. The modules' ``FileClient`` hands out bytes that know their name, and the modules' ``imfrombytes``
refuses bytes that it would trip over or convert silently. Around them, ``__init__`` looks at the folders first, and
``__getitem__`` compares the two sizes that were decoded.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

import cv2
import lmdb
import numpy as np
from basicsr.data import paired_image_dataset, single_image_dataset
from basicsr.utils import FileClient
from torch.utils.data import Dataset

from dynq_basicsr.data.decode import check_rgb8, decode_rgb8
from dynq_basicsr.data.pairs import check_pair_names, check_sizes
from dynq_basicsr.data.sources import cannot_open, list_folder, lmdb_keys, missing_key, read_file, some, strays
from dynq_basicsr.errors import DynqError
from dynq_basicsr.image_bytes import unreadable

__all__ = ['decode_rgb8', 'install']

_NEEDED_WHEN_READING = ('scale', 'gt_size', 'use_hflip', 'use_rot')


def install() -> None:
    """Make ``PairedImageDataset`` and ``SingleImageDataset`` fail well; a second call changes nothing."""
    for module, name, roots in ((paired_image_dataset, 'PairedImageDataset', ('dataroot_lq', 'dataroot_gt')),
                                (single_image_dataset, 'SingleImageDataset', ('dataroot_lq', ))):
        dataset = getattr(module, name)
        if isinstance(module.imfrombytes, _StrictReader):
            continue
        module.imfrombytes = _StrictReader(module.imfrombytes)
        module.FileClient = NamingFileClient
        dataset.__init__ = _checked_init(dataset.__init__, roots)
        dataset.__getitem__ = _checked_getitem(dataset.__getitem__)


class NamedBytes(bytes):
    """An encoded image that knows its name for errors, and where to note its size once it is decoded."""

    name: str
    role: str
    sizes: dict[str, tuple[str, int, int]]


class NamingFileClient(FileClient):
    """BasicSR's file client, whose answers know which file or key they are, and whose failures say so.

    Args:
        backend: ``disk``, ``lmdb`` or ``memcached``.
        **kwargs: Passed on to the backend.

    Raises:
        DynqError: If the backend is unknown or does not open.
    """

    def __init__(self, backend: str = 'disk', **kwargs) -> None:
        self.roots = dict(zip(kwargs.get('client_keys', ()), kwargs.get('db_paths', ()), strict=True))
        self.sizes: dict[str, tuple[str, int, int]] = {}
        try:
            super().__init__(backend, **kwargs)
        except lmdb.Error as error:
            raise cannot_open(' and '.join(self.roots.values()), error) from error
        except (ValueError, TypeError, ImportError) as error:
            raise DynqError(f'io_backend: {error}') from error

    def get(self, filepath: str, client_key: str = 'default') -> NamedBytes:
        """Return the bytes of a file or key.

        Args:
            filepath: The file, or the LMDB key.
            client_key: Which of the images it is, ``lq`` or ``gt``.

        Raises:
            DynqError: If there is nothing under that name.
        """
        if self.backend == 'disk':
            name, content = str(filepath), read_file(filepath)
        else:
            name, content = f'key {filepath!r} of {self.roots.get(client_key)}', super().get(filepath, client_key)
        if content is None:
            raise missing_key(self.roots.get(client_key), filepath)
        named = NamedBytes(content)
        named.name, named.role, named.sizes = name, client_key, self.sizes
        return named


class _StrictReader:
    """BasicSR's ``imfrombytes`` behind a check of the bytes; it decodes itself, so the values are its own."""

    def __init__(self, plain: Callable[..., np.ndarray]) -> None:
        self.plain = plain

    def __call__(self, content: bytes, flag: str = 'color', float32: bool = False) -> np.ndarray:
        name = getattr(content, 'name', 'image')
        check_rgb8(content, name, allow_grey=True)
        try:
            image = self.plain(content, flag=flag, float32=float32)
        except (cv2.error, AttributeError) as error:  # OpenCV's None has no astype
            raise unreadable(name) from error
        if image is None:
            raise unreadable(name)
        if isinstance(content, NamedBytes):
            content.sizes[content.role] = (name, image.shape[1], image.shape[0])
        return image


def _checked_init(plain: Callable, roots: tuple[str, ...]) -> Callable:
    @functools.wraps(plain)
    def __init__(self, opt: Mapping) -> None:
        section = f'data set {opt.get("name", opt.get("phase", ""))!r}'
        for key in (*roots, 'io_backend'):
            if opt.get(key) is None:
                raise DynqError(f'{section}: the option {key} is missing; add it to the option file.')
        _check_sources(section, opt, roots)
        plain(self, opt)

    return __init__


def _check_sources(section: str, opt: Mapping, roots: tuple[str, ...]) -> None:
    backend = opt['io_backend'].get('type') if isinstance(opt['io_backend'], Mapping) else None
    if backend == 'lmdb':
        keys = [set(lmdb_keys(opt[key], f'{section}: {key}')) for key in roots]
        alone = sorted(keys[0] ^ keys[-1])
        if alone:
            raise DynqError(f'{section}: the LMDBs {opt[roots[0]]!r} and {opt[roots[-1]]!r} do not list the same keys; '
                            f'{some(alone)} is in one alone. Make both from the same images.')
    elif backend not in ('disk', 'memcached'):
        raise DynqError(f'{section}: io_backend needs a type; use {{type: disk}} or {{type: lmdb}}.')
    elif opt.get('meta_info_file') is not None or ('meta_info_file' in opt and len(roots) == 1):
        if opt['meta_info_file'] is None or not os.path.isfile(opt['meta_info_file']):
            raise DynqError(f'{section}: meta_info_file {opt["meta_info_file"]!r} is not a file; correct it or remove '
                            'the option to read the whole folder.')
    elif backend == 'disk':
        listed = {}
        for key in roots:
            images, others = list_folder(opt[key], f'{section}: {key}')
            unknown = strays(opt[key], others)
            if unknown:
                raise DynqError(f'{section}: {key}: {str(opt[key])!r} holds a file that is not an image, '
                                f'{some(unknown)}; remove it.')
            listed[key] = images + others
        if len(roots) == 2:
            check_pair_names(section, opt, listed['dataroot_lq'], listed['dataroot_gt'])


def _checked_getitem(plain: Callable) -> Callable:
    @functools.wraps(plain)
    def __getitem__(self, index: int) -> dict:
        try:
            item = plain(self, index)
        except KeyError as error:
            if error.args[0] not in _NEEDED_WHEN_READING:
                raise
            raise DynqError(f'data set {self.opt.get("name", "")!r}: the option {error.args[0]} is missing; add it to '
                            'the option file.') from error
        except ValueError:  # BasicSR's crop for training: sizes that do not fit
            _check_last_sizes(self)
            raise
        _check_last_sizes(self)
        return item

    return __getitem__


def _check_last_sizes(dataset: Dataset) -> None:
    # A subclass may have brought a file client of its own, which notes nothing.
    sizes = getattr(dataset.file_client, 'sizes', {})
    if 'gt' in sizes and 'lq' in sizes:
        check_sizes(dataset.opt, sizes)
