"""Which files are upscaled, what the results are called, and how they are written: whole or not at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dynq_basicsr.atomic import replacing, temporary_beside
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import IMAGE_SUFFIXES, make_folder_for, write_encoded
from dynq_basicsr.imaging.picture_encoder import DEEP, JPEG, MOST_SIDE, encode_picture, encode_png_rows
from dynq_basicsr.imaging.pictures import Picture

LARGE = 2**26  # pixels of a result, above which it is not held as a whole
# Endings of pictures that are not read from folders: those who have them should hear of it.
OTHER_PICTURES = frozenset(
    '.apng .arw .avif .bpg .cr2 .cr3 .dcm .dib .dng .exr .gif .hdr .heic .heif .ico .j2k .jp2 .jpe .jxl .nef .orf .pbm '
    '.pcx .pfm .pgm .pic .pnm .ppm .psd .raf .raw .rgb .rw2 .sgi .svg .svs .tga .xcf'.split()
)


class Job(NamedTuple):
    """A file to upscale, and the file to write."""

    source: Path
    target: Path


def plan_jobs(
    inputs: Sequence[Path],
    output: Path,
    file_format: str,
    suffix: str,
    recursive: bool = False,
    advice: str = 'take --format same, or upscale them into different folders',
) -> list[Job]:
    """Which files to upscale, and what the results are called: name, suffix, ending.

    Args:
        inputs: Files, taken whatever their ending, and folders, of which the images are taken.
        output: The folder for results.
        file_format: One of ``choices.FORMATS``.
        suffix: Behind the name.
        recursive: Folders below folders, too; results then lie in folders of the same names.
        advice: What to do about two results of one name.

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
                raise DynqError(f'{target} would be the result of both {other} and {source}; {advice}.')
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
        others = pictures_skipped([given], recursive)
        hint = f', but {words_for(others)}: convert them to png' if others else ''
        hint += '' if recursive else '; --recursive looks into the folders below it'
        raise DynqError(f'{given}: the folder holds no images ({", ".join(IMAGE_SUFFIXES)}){hint}.')


def pictures_in(folder: Path, recursive: bool = False) -> Iterator[Path]:
    """The files in a folder that are images by their ending, sorted; hidden ones do not count.

    Args:
        folder: The folder.
        recursive: Look into the folders below it, too.
    """
    return (path for path in _visible_files(folder, recursive) if path.suffix.lower() in IMAGE_SUFFIXES)


def _visible_files(folder: Path, recursive: bool) -> Iterator[Path]:
    for path in sorted(folder.rglob('*') if recursive else folder.iterdir()):
        hidden = any(part.startswith('.') for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            yield path


def pictures_skipped(inputs: Sequence[Path], recursive: bool) -> Counter[str]:
    """How many pictures of other formats lie in the folders, by their endings.

    Args:
        inputs: As of ``plan_jobs``.
        recursive: Folders below folders, too.
    """
    folders = (given for given in inputs if given.is_dir())
    return Counter(
        path.suffix.lower()
        for folder in folders
        for path in _visible_files(folder, recursive)
        if path.suffix.lower() in OTHER_PICTURES
    )


def words_for(skipped: Mapping[str, int]) -> str:
    """Endings and how many files have them, ``'2 .avif, 1 .gif'``."""
    return ', '.join(f'{count} {ending}' for ending, count in sorted(skipped.items()))


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


def is_done(target: Path) -> bool:
    """Whether a result is there: a file that is not empty; results are written whole.

    Raises:
        DynqError: If there is a folder of that name.
    """
    if target.is_dir():
        raise DynqError(f'{target}: is a folder, where the result is to be; remove it, or give another --suffix.')
    return target.is_file() and target.stat().st_size > 0


def levels_in(target: Path, source: np.ndarray) -> int:
    """The largest value of the result: 65535 where both the source and the format of the target have 16 bits."""
    return 65535 if source.dtype == np.uint16 and target.suffix.lower() in DEEP else 255


def check_format(picture: Picture, target: Path, scale: int) -> None:
    """See that the format of a result holds it, before it is computed.

    Args:
        picture: What is to be enlarged.
        target: The file for the result.
        scale: Enlargement of the sides.

    Raises:
        DynqError: If it does not.
    """
    ending = target.suffix.lower()
    if ending in JPEG and picture.alpha is not None:
        raise DynqError(f'{target}: JPEG holds no transparency; take --format png or webp.')
    height, width = (scale * side for side in picture.colour.shape[:2])
    most = MOST_SIDE.get(ending)
    if most is not None and max(height, width) > most:
        sides = f'sides of {most} pixels, not {width} x {height}'
        raise DynqError(f'{target}: {ending[1:]} holds {sides}; take --format png.')


def fits_in_rows(target: Path, pixels: int) -> bool:
    """Whether a result of so many pixels is better written row by row, see ``write_rows``."""
    return pixels > LARGE and target.suffix.lower() == '.png'


def write_rows(strips: Iterable[Picture], height: int, target: Path) -> None:
    """Write a PNG that need not fit into memory; until it is whole, it has another name.

    Args:
        strips: Its rows, from above.
        height: Of all of them together.
        target: The file.

    Raises:
        DynqError: If it cannot be written.
    """
    make_folder_for(target)
    with replacing(target) as file:
        for part in encode_png_rows(strips, height):
            file.write(part)


def write_picture(picture: Picture, target: Path) -> None:
    """Encode a picture and write it; until it is whole, it has another name.

    Raises:
        DynqError: If the format does not hold it, or it cannot be written.
    """
    check_format(picture, target, scale=1)
    write_encoded(target, encode_picture(picture, target.suffix.lower()), picture.colour)
