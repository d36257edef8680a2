"""Which files are upscaled, what the results are called, and how they are written: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from dynq_basicsr.atomic import temporary_beside
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import IMAGE_SUFFIXES, write_image
from dynq_basicsr.imaging.pictures import Picture

JPEG = ('.jpg', '.jpeg')
DEEP = ('.png', '.tif', '.tiff')  # that hold 16 bits
PARAMETERS = {
    **dict.fromkeys(JPEG, (cv2.IMWRITE_JPEG_QUALITY, 95)),
    '.webp': (cv2.IMWRITE_WEBP_QUALITY, 101),  # above 100: without loss
}


class Job(NamedTuple):
    """A file to upscale, and the file to write."""

    source: Path
    target: Path


def plan_jobs(
    inputs: Sequence[Path], output: Path, file_format: str, suffix: str, recursive: bool = False
) -> list[Job]:
    """Which files to upscale, and what the results are called: name, suffix, ending.

    Args:
        inputs: Files, taken whatever their ending, and folders, of which the images are taken.
        output: The folder for results.
        file_format: One of ``choices.FORMATS``.
        suffix: Behind the name.
        recursive: Folders below folders, too; results then lie in folders of the same names.

    Raises:
        DynqError: If an input does not exist, there are none, or a result would replace an input or another result.
    """
    jobs: dict[Path, Path] = {}
    for given in inputs:
        for source, place in _list(given, output, recursive):
            ending = source.suffix if file_format == 'same' else f'.{file_format}'
            if ending.lower() not in IMAGE_SUFFIXES:
                ending = '.png'
            target = output / place / f'{source.stem}{suffix}{ending}'
            if target.resolve() == source.resolve():
                raise DynqError(f'{source}: the result would replace it; give another --output or a --suffix.')
            other = jobs.setdefault(target, source)
            if other != source:
                raise DynqError(
                    f'{target} would be the result of both {other} and {source}; take --format same, or upscale them '
                    'into different folders.'
                )
    return [Job(source, target) for target, source in jobs.items()]


def _list(given: Path, output: Path, recursive: bool) -> Iterator[tuple[Path, Path]]:
    """The images of an input, with the folder of each below ``output``."""
    if given.is_file():
        yield given, Path()
        return
    if not given.is_dir():
        raise DynqError(f'{given}: no such file or folder.')
    if given.resolve() == output.resolve():
        raise DynqError(f'{given}: results would lie among the images; give another folder as --output.')
    found, results = False, output.resolve()
    for path in pictures_in(given, recursive):
        if results in path.resolve().parents:
            continue
        found = True
        yield path, path.parent.relative_to(given)
    if not found:
        hint = '' if recursive else '; --recursive looks into the folders below it'
        raise DynqError(f'{given}: the folder holds no images ({", ".join(IMAGE_SUFFIXES)}){hint}.')


def pictures_in(folder: Path, recursive: bool = False) -> Iterator[Path]:
    """The files in a folder that are images by their ending, sorted; hidden ones do not count.

    Args:
        folder: The folder.
        recursive: Look into the folders below it, too.
    """
    for path in sorted(folder.rglob('*') if recursive else folder.iterdir()):
        hidden = any(part.startswith('.') for part in path.relative_to(folder).parts)
        if not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield path


def prepare_output(output: Path) -> None:
    """Make the folder for results, and see that files can be written there, before hours are spent.

    Raises:
        DynqError: If they cannot.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = temporary_beside(output / 'write-test')
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise DynqError(f'--output {output}: cannot be written to ({error.strerror}); give another folder.') from error


def levels_in(target: Path, source: np.ndarray) -> int:
    """The largest value of the result: 65535 where both the source and the format of the target have 16 bits."""
    return 65535 if source.dtype == np.uint16 and target.suffix.lower() in DEEP else 255


def write_picture(picture: Picture, target: Path) -> None:
    """Encode a picture and write it; until it is whole, it has another name.

    Raises:
        DynqError: If the format does not hold it, or it cannot be written.
    """
    ending = target.suffix.lower()
    if ending in JPEG and picture.alpha is not None:
        raise DynqError(f'{target}: JPEG holds no transparency; take --format png or webp.')
    write_image(target, _for_opencv(picture), PARAMETERS.get(ending, ()))


def _for_opencv(picture: Picture) -> np.ndarray:
    colour = picture.colour
    if colour.shape[2] == 3:
        colour = cv2.cvtColor(colour, cv2.COLOR_RGB2BGR)
    elif picture.alpha is not None:
        colour = colour.repeat(3, axis=2)
    return colour if picture.alpha is None else np.dstack([colour, picture.alpha])
