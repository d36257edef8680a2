"""BasicSR's own data sets, failing with a sentence that names the file; good images come out unchanged.

The classes here take the place of BasicSR's in our runs. Their file client hands out bytes that know their name, and
BasicSR's ``imfrombytes`` refuses such bytes where it would trip over them or convert them silently; any other bytes it
takes as ever. Around that, the constructors look at the folders first, and ``__getitem__`` compares the two sizes that
were decoded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import ClassVar

import cv2
import lmdb
import numpy as np
from basicsr.data import paired_image_dataset, single_image_dataset
from basicsr.utils import FileClient
from torch.utils.data import Dataset

from dynq_basicsr.data.decode import check_rgb8
from dynq_basicsr.data.pairs import check_pair_names, check_sizes, lq_name
from dynq_basicsr.data.sources import (
    cannot_open,
    list_folder,
    listed_names,
    lmdb_keys,
    missing_key,
    read_file,
    some,
    strays,
)
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import unreadable

_NEEDED_WHEN_READING = ('scale', 'gt_size', 'use_hflip', 'use_rot')


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


class StrictReader:
    """BasicSR's ``imfrombytes`` behind a check of bytes that know their name; the values are its own.

    Args:
        plain: BasicSR's function.
    """

    def __init__(self, plain: Callable[..., np.ndarray]) -> None:
        self.plain = plain

    def __call__(self, content: bytes, flag: str = 'color', float32: bool = False) -> np.ndarray:
        """Decode as BasicSR does.

        Raises:
            DynqError: If named bytes are no whole 8-bit RGB or grey image.
        """
        if not isinstance(content, NamedBytes):
            return self.plain(content, flag=flag, float32=float32)
        check_rgb8(content, content.name, allow_grey=True)
        try:
            image = self.plain(content, flag=flag, float32=float32)
        except (cv2.error, AttributeError) as error:  # OpenCV's None has no astype
            raise unreadable(content.name) from error
        if image is None:
            raise unreadable(content.name)
        content.sizes[content.role] = (content.name, image.shape[1], image.shape[0])
        return image


def image_does_not_know_its_name() -> None:
    """Let BasicSR's reader of images be strict with the bytes that our data sets hand to it.

    Symptom: ``AttributeError: 'NoneType' object has no attribute 'astype'`` for a damaged image, without its name; one
        with alpha or 16 bits is converted silently.
    Cause: BasicSR's data sets call ``imfrombytes`` of their module with bytes alone.
    Cure: a reader that is strict where the bytes know their name, as those of ``NamingFileClient`` do.
    """
    for module in (paired_image_dataset, single_image_dataset):
        if not isinstance(module.imfrombytes, StrictReader):
            module.imfrombytes = StrictReader(module.imfrombytes)


class _Checked(Dataset):
    """Mixed into one of BasicSR's data sets.

    Attributes:
        roots: The options that name its folders.
    """

    roots: ClassVar[tuple[str, ...]]

    def __init__(self, opt: Mapping) -> None:
        section = f'data set {opt.get("name", opt.get("phase", ""))!r}'
        for key in (*self.roots, 'io_backend'):
            if opt.get(key) is None:
                raise DynqError(f'{section}: the option {key} is missing; add it to the option file.')
        _check_sources(section, opt, self.roots)
        paths = None
        if opt['io_backend']['type'] == 'disk' and opt.get('meta_info_file') is not None:
            paths = _listed_paths(section, opt, self.roots)
        super().__init__(opt)
        if paths is not None:
            self.paths = paths  # BasicSR cuts names at their first space

    def __getitem__(self, index: int) -> dict:
        """As BasicSR's.

        Raises:
            DynqError: Names the image that is damaged, of another kind, or does not fit its partner.
        """
        if self.file_client is None:
            self.file_client = NamingFileClient(self.io_backend_opt.pop('type'), **self.io_backend_opt)
        try:
            item = super().__getitem__(index)
        except KeyError as error:
            if error.args[0] not in _NEEDED_WHEN_READING:
                raise
            raise DynqError(f'data set {self.opt.get("name", "")!r}: the option {error.args[0]} is missing; add it to '
                            'the option file.') from error
        except ValueError:  # BasicSR's crop for training: sizes that do not fit
            self._check_sizes()
            raise
        self._check_sizes()
        return item

    def _check_sizes(self) -> None:
        # A subclass may have brought a file client of its own, which notes nothing.
        sizes = getattr(self.file_client, 'sizes', {})
        if 'gt' in sizes and 'lq' in sizes:
            check_sizes(self.opt, sizes)


class CheckedPairedImageDataset(_Checked, paired_image_dataset.PairedImageDataset):
    """BasicSR's ``PairedImageDataset``, which see for its options.

    Raises:
        DynqError: If a folder, LMDB or option is missing, or the names of LQ and GT do not fit together.
    """

    roots = ('dataroot_lq', 'dataroot_gt')


class CheckedSingleImageDataset(_Checked, single_image_dataset.SingleImageDataset):
    """BasicSR's ``SingleImageDataset``, which see for its options.

    Raises:
        DynqError: If a folder, LMDB or option is missing.
    """

    roots = ('dataroot_lq',)


# BasicSR's class -> what our runs build in its place
CHECKED = {
    paired_image_dataset.PairedImageDataset: CheckedPairedImageDataset,
    single_image_dataset.SingleImageDataset: CheckedSingleImageDataset,
}


def _listed_paths(section: str, opt: Mapping, roots: tuple[str, ...]) -> list:
    """Paths as BasicSR's data sets hold them, of the images that the meta-information file lists."""
    paths = []
    for name in listed_names(opt['meta_info_file'], f'{section}: meta_info_file'):
        files = {'gt_path': os.path.join(opt['dataroot_gt'], name)} if 'dataroot_gt' in roots else {}
        lq = lq_name(section, opt.get('filename_tmpl', '{}'), os.path.basename(name)) if files else name
        files['lq_path'] = os.path.join(opt['dataroot_lq'], lq)
        missing = [file for file in files.values() if not os.path.isfile(file)]
        if missing:
            raise DynqError(f'{section}: meta_info_file {opt["meta_info_file"]} lists {name!r}, but {missing[0]} is no '
                            'file; correct the list or the folders.')
        paths.append(files if 'gt_path' in files else files['lq_path'])
    return paths


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
