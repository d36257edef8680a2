"""The sizes of a data set's images, told by their first bytes, so that all of them are known before a run begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing

from torch.utils.data import Dataset

from dynq_basicsr.data.sources import read_file, read_lmdb
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import peek_size, read_size

Sizes = Mapping[str, tuple[str, int, int]]  # 'lq' and, where there is, 'gt' -> name, width and height in pixels

HEAD = 1 << 16  # bytes; a photograph's EXIF with its thumbnail takes less
WHOLE = 8  # images that are read to their end, which shows a folder of damaged ones
SECONDS = 20.0  # 800 pairs of DIV2K take 0.1 s from a warm disk, tens of thousands on a slow network more than this


def check_images(dataset: Dataset, options: Mapping, check: Callable[[Sizes], None], seconds: float = SECONDS) -> int:
    """Have the sizes of images checked, of all of them as far as time allows; each is checked again when it is read.

    Args:
        dataset: A data set of ours.
        options: Its options: ``io_backend`` and the roots.
        check: Refuses sizes that do not serve, with a ``DynqError``.
        seconds: Time to spend; the first few images are looked at in any case.

    Returns:
        How many images were not looked at.

    Raises:
        DynqError: ``check``'s, or that an image is damaged or missing.
    """
    roots = getattr(type(dataset), 'roots', ())  # a data set without such has looked at its images itself
    if not roots or options['io_backend']['type'] not in ('disk', 'lmdb'):
        return 0
    end = time.monotonic() + seconds
    files = {root: [_file(one, root) for one in dataset.paths] for root in roots}
    count = len(dataset.paths)
    for sizes in _whole(options, files, range(min(count, WHOLE))):
        check(sizes)
    doubtful, done = [], min(count, WHOLE)
    for number, sizes in _peeked(options, files, range(done, count)):
        if time.monotonic() > end:
            break
        done = number + 1
        try:
            fits = sizes is not None and check(sizes) is None
        except DynqError:  # which the whole image confirms, as it may be turned by what stands at its end
            fits = False
        if not fits:
            doubtful.append(number)
    for place, sizes in enumerate(_whole(options, files, doubtful)):
        check(sizes)
        if time.monotonic() > end:
            return count - done + len(doubtful) - place - 1
    return count - done


def _file(path: Mapping | str, root: str) -> str:
    return path[f'{_role(root)}_path'] if isinstance(path, Mapping) else path


def _role(root: str) -> str:
    return root.removeprefix('dataroot_')


def _contents(options: Mapping, root: str, files: Sequence[str], most: int | None) -> Iterator[bytes]:
    """The first bytes of images, or all; an LMDB is open until the iterator is closed."""
    if options['io_backend']['type'] == 'lmdb':
        yield from read_lmdb(options[root], files, most)
    else:
        for file in files:
            yield read_file(file, most)


def _name(options: Mapping, root: str, file: str) -> str:
    return f'key {file!r} of {options[root]}' if options['io_backend']['type'] == 'lmdb' else file


def _whole(options: Mapping, files: Mapping[str, Sequence[str]], numbers: Sequence[int]) -> Iterator[Sizes]:
    """The sizes of some images, read to their end."""
    for contents in _rows(options, files, numbers, None):
        yield {_role(root): (name, *read_size(content, name)) for root, (name, content) in contents.items()}


def _peeked(
    options: Mapping, files: Mapping[str, Sequence[str]], numbers: Sequence[int]
) -> Iterator[tuple[int, Sizes | None]]:
    """Number and sizes of some images by their first bytes; None where these do not tell."""
    for number, contents in zip(numbers, _rows(options, files, numbers, HEAD), strict=True):
        sizes = {_role(root): (name, peek_size(content)) for root, (name, content) in contents.items()}
        known = all(size for _, size in sizes.values())
        yield number, {role: (name, *size) for role, (name, size) in sizes.items()} if known else None


def _rows(
    options: Mapping, files: Mapping[str, Sequence[str]], numbers: Sequence[int], most: int | None
) -> Iterator[Mapping[str, tuple[str, bytes]]]:
    """Root -> name and content, image by image."""
    with ExitStack() as stack:
        chosen = {root: [names[number] for number in numbers] for root, names in files.items()}
        readers = [
            stack.enter_context(closing(_contents(options, root, names, most))) for root, names in chosen.items()
        ]
        for row in zip(*readers, *chosen.values(), strict=True):
            contents, names = row[: len(files)], row[len(files) :]
            yield {
                root: (_name(options, root, name), content)
                for root, name, content in zip(files, names, contents, strict=True)
            }
