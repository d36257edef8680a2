"""The images that a network is calibrated with: files, arrays, tensors or whatever a loader gives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dynq_basicsr.data.channels import with_channels
from dynq_basicsr.data.pictures import as_tensor, read_any, window, with_8_bits
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.given import as_array, is_like_an_array
from dynq_basicsr.imaging.image_bytes import IMAGE_SUFFIXES
from dynq_basicsr.imaging.image_files import pictures_in
from dynq_basicsr.imaging.pictures import as_picture
from dynq_basicsr.workflow.recipes import PATCH

LEAST, GOOD = 16, 48  # sides below the first hold no patch worth calibrating with; below the second, if need be
HELD_OUT = 5  # pictures at most that show how well the result agrees


@dataclass(frozen=True)
class Pictures:
    """Images in [0, 1], (C, H, W) each: float32, or uint8 that counts 255 for 1.

    Attributes:
        calibration: Those to calibrate with.
        held_out: Others of the same kind; empty where there was only one image.
        patch: Side of the patches that all of ``calibration`` hold, pixels.
        files: Of ``calibration``; None for an image that Python gave.
        held_out_files: Of ``held_out``, likewise.
        notes: What was left out, for the reader.
    """

    calibration: list[Tensor]
    held_out: list[Tensor]
    patch: int
    files: list[Path | None]
    held_out_files: list[Path | None]
    notes: list[str] = field(default_factory=list)


def gather(images: object, most: int, channels: int, seed: int) -> Pictures:
    """Choose and read images.

    Args:
        images: A folder, a file, or several of these; what ``as_picture`` takes, or arrays (N, H, W, C); a tensor
            (C, H, W) or (N, C, H, W), uint8 or in [0, 1]; a sequence of these; a loader, whose batches may be mappings
            with ``lq``, or tuples that begin with the images.
        most: How many to calibrate with at most.
        channels: What the network takes: 1 (luma) or 3.
        seed: Of the choice.

    Raises:
        DynqError: If there is none that can be used.
    """
    found = _listed(images, most + HELD_OUT)
    if not found:
        raise DynqError('images: there are none; name a folder of pictures.')
    good, small, broken = [], [], []  # file and image; file and image; reason
    for index in np.random.default_rng(seed).permutation(len(found)):
        try:
            image = _read(found[index], channels, seed)
        except (DynqError, OSError) as error:
            broken.append(str(error))
            continue
        file = found[index] if isinstance(found[index], Path) else None
        (good if min(image.shape[-2:]) >= GOOD else small).append((file, image))
        if len(good) == most + HELD_OUT:
            break
    usable = good or [one for one in small if min(one[1].shape[-2:]) >= LEAST]
    if not usable:
        why = broken[0] if broken else f'all of them are smaller than {LEAST} pixels; name larger ones.'
        raise DynqError(f'images: {why}')
    count = min(most, len(usable) - (min(HELD_OUT, len(usable) // 5) or (len(usable) > 1)))
    seen, held_out = usable[:count], usable[count : count + HELD_OUT]
    notes = [f'{len(broken)} could not be read ({broken[0]})'] if broken else []
    if good and small:
        notes.append(f'{len(small)} smaller than {GOOD} pixels left out')
    patch = min(PATCH, *(min(image.shape[-2:]) for _, image in seen))
    calibration, others = ([image for _, image in part] for part in (seen, held_out))
    return Pictures(calibration, others, patch, [file for file, _ in seen], [file for file, _ in held_out], notes)


def _listed(images: object, most: int) -> list[Path | Tensor]:
    """Files, unread, and images of Python; of what can only be gone through, the first ones."""
    if isinstance(images, str | PathLike):
        return _files([images])
    if isinstance(images, list | tuple) or is_like_an_array(images):
        return [one for given in _each(images) for one in _files_of(given)]
    return list(islice((one for given in _each(images) for one in _files_of(given)), most))


def _files_of(given: object) -> list[Path | Tensor]:
    return _files([given]) if isinstance(given, str | PathLike) else [_as_tensor(given)]


def _files(images: Iterable[str | PathLike[str]]) -> list[Path]:
    """Files as named, and of folders the pictures in them, in the order of their names."""
    found: list[Path] = []
    for given in images:
        path = Path(given)
        if path.is_dir():
            inside = list(pictures_in(path))
            if not inside:
                raise DynqError(f'{path}: the folder holds no images ({", ".join(IMAGE_SUFFIXES)}).')
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise DynqError(f'{path}: no such file or folder.')
    return list(dict.fromkeys(found))


def _each(images: object) -> Iterator[object]:
    """One image after the other, whatever holds them."""
    if is_like_an_array(images):
        images = images if isinstance(images, Tensor) else as_array(images)
        yield from images if images.ndim == 4 else [images]
        return
    if not isinstance(images, Iterable) or isinstance(images, Mapping):
        raise DynqError(f'images: expected a folder, arrays, tensors or a loader, not {type(images).__name__}.')
    for one in images:
        if isinstance(one, str | PathLike):
            yield one
        elif isinstance(one, Mapping):
            if 'lq' not in one:
                raise DynqError('images: the batches of the loader are mappings without a key lq.')
            yield from _each(one['lq'])
        elif isinstance(one, list | tuple):
            yield from _each(one[0])
        else:
            yield from _each(one)


def _as_tensor(image: object) -> Tensor:
    """(C, H, W), as ``Pictures`` has it."""
    if not isinstance(image, Tensor):
        if not is_like_an_array(image):
            raise DynqError(f'images: expected arrays, tensors or files, not {type(image).__name__}.')
        return _from_array(as_array(image))
    if image.ndim != 3 or len(image) not in (1, 3):
        raise DynqError(f'images: a tensor must be (C, H, W) with 1 or 3 channels, not {tuple(image.shape)}.')
    if image.dtype == torch.uint8:
        return image.detach().cpu()
    if not image.is_floating_point():
        raise DynqError(f'images: a tensor must be uint8, or float in [0, 1], not {image.dtype}.')
    image = image.detach().float().cpu()
    if not image.isfinite().all() or image.min() < -0.01 or image.max() > 1.01:
        raise DynqError('images: float images must lie in [0, 1]; divide them by 255.')
    return image


def _from_array(image: np.ndarray) -> Tensor:
    """What ``as_picture`` takes, whole numbers as files of them are read: of 8 bits."""
    try:
        colour = as_picture(image).colour
    except DynqError as error:
        raise DynqError(f'images: {error}') from error
    if not np.issubdtype(colour.dtype, np.floating):
        return as_tensor(with_8_bits(colour))
    return as_tensor(colour.astype(np.float32))


def _read(image: Path | Tensor, channels: int, seed: int) -> Tensor:
    if isinstance(image, Path):
        if len(str(image).splitlines()) > 1:  # which no list of files can hold
            raise DynqError(f'{str(image)!r}: there is a line break in the name; rename the file.')
        image = read_any(image.read_bytes(), str(image))
    return with_channels(window(image, seed), channels)
