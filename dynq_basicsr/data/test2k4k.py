"""Make the benchmarks Test2K and Test4K from DIV8K, as ClassSR (Kong et al., CVPR 2021) constructs them.

    dynq data test2k4k --div8k FOLDER --out datasets/benchmarks [--sets Test2K Test4K]

Test2K: DIV8K images 1201 to 1300, shrunk by 4, which makes a width of 7680 one of 1920. Test4K: images 1301 to 1400,
shrunk by 2, to 3840. The result is the HR image; its x4 LR image is that shrunk by 4 once more. Every shrinking is
MATLAB's ``imresize`` (bicubic, antialiased) on uint8, and what exceeds a multiple of the factor at the right and at the
bottom is cut off before it. Written are ``OUT/Test2K/HR/1201.png``, ``OUT/Test2K/LR_bicubic/X4/1201x4.png`` and so on,
each file whole or not at all; what an interrupted run has written is not made again.

What is certain: numbers and x4 LR are in ClassSR's paper, which says "downsampled to 2K and 4K resolution"; that Test2K
is DIV8K shrunk by 4 is its author's answer (XPixelGroup/ClassSR, issue 20), and its ``generate_mod_LR_bic.py`` reads
the HR of Test4K from a folder ``x2``. What is not: whether ClassSR shrank with MATLAB or with that script's own float
``imresize``, which does not round between the two passes. With the latter, about a third of the published pixels would
differ from these by one level, as they do on the other benchmarks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dynq_basicsr.data.bicubic import SUFFIXES, crop_to_multiple, encode_png, imresize_uint8, read_photograph
from dynq_basicsr.errors import DynqError

SCALE = 4
SETS = {'Test2K': (range(1201, 1301), 4), 'Test4K': (range(1301, 1401), 2)}  # numbers in DIV8K, shrinking factor
LEAST = 96 * SCALE  # side of an HR image: less than one patch of the papers is no image of DIV8K


def find_images(folder: Path, numbers: Sequence[int]) -> dict[int, Path]:
    """Find images by their numbers.

    Args:
        folder: Holds ``<number>.png``, leading zeros allowed; other files do not matter.
        numbers: Those wanted.

    Returns:
        Number -> file, ascending.

    Raises:
        DynqError: If the folder or a number is missing.
    """
    if not folder.is_dir():
        raise DynqError(f'--div8k: {folder} is not a folder.')
    files = {path.stem: path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    found = {int(stem): path for stem, path in files.items() if stem.isdecimal()}
    missing = [number for number in numbers if number not in found]
    if missing:
        some = ', '.join(repr(str(number)) for number in missing[:3]) + (' and more' if len(missing) > 3 else '')
        raise DynqError(
            f'--div8k: {folder} lacks {len(missing)} of the images {numbers[0]} to {numbers[-1]}: {some}; give the '
            'folder with all training images of DIV8K.'
        )
    return {number: found[number] for number in numbers}


def make_pair(image: np.ndarray, factor: int) -> tuple[np.ndarray, np.ndarray]:
    """Shrink an image of DIV8K to its HR and its LR image.

    Args:
        image: (H, W[, 3]), uint8.
        factor: From it to HR.

    Returns:
        HR, about (H / factor, W / factor[, 3]) with sides that are multiples of 4, and LR, a quarter of that a side.
    """
    hr = crop_to_multiple(imresize_uint8(crop_to_multiple(image, factor), factor), SCALE)
    return hr, imresize_uint8(hr, SCALE)


def write_whole(path: Path, image: np.ndarray) -> None:
    """Write a PNG file whole or not at all."""
    aside = path.with_name(f'.{path.name}.tmp')
    try:
        aside.write_bytes(encode_png(image, 3))
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def prepare_set(images: Mapping[int, Path], factor: int, out: Path) -> int:
    """Make the pairs of one benchmark that are not there yet.

    Args:
        images: See ``find_images``.
        factor: See ``make_pair``.
        out: Its folder.

    Returns:
        How many were made now.

    Raises:
        DynqError: If an image is damaged or too small.
    """
    hr_folder, lr_folder = out / 'HR', out / 'LR_bicubic' / f'X{SCALE}'
    for folder in (hr_folder, lr_folder):
        folder.mkdir(parents=True, exist_ok=True)
    pairs = {path: (hr_folder / f'{number}.png', lr_folder / f'{number}x{SCALE}.png')
             for number, path in images.items()}  # fmt: skip
    todo = {path: pair for path, pair in pairs.items() if not all(file.is_file() for file in pair)}
    for path, files in tqdm(todo.items(), desc=out.name, unit='image', disable=None):
        image = read_photograph(path)
        if min(image.shape[:2]) < LEAST * factor:
            raise DynqError(
                f'{path} measures {image.shape[1]}x{image.shape[0]}, less than {LEAST * factor} a side; give the '
                'images of DIV8K in full size.'
            )
        for file, pixels in zip(files, make_pair(image, factor), strict=True):
            write_whole(file, pixels)
    return len(todo)


def prepare(div8k: Path, out: Path, sets: Sequence[str]) -> None:
    """Make benchmarks; say how many pairs each has."""
    found = {name: find_images(div8k, SETS[name][0]) for name in sets}  # all of them, before anything is made
    for name, images in found.items():
        made = prepare_set(images, SETS[name][1], out / name)
        sys.stdout.write(f'{out / name}: {len(images)} pairs, {made} of them made now\n')
