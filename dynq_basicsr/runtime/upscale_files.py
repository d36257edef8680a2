"""The loop over files: each is upscaled, left out because its result is there, or reported and left out."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from dynq_basicsr.atomic import NotWritten, sweep
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.colours import Upscaler, upscale_picture, upscale_strips
from dynq_basicsr.imaging.image_files import (
    Job,
    check_format,
    fits_in_rows,
    is_done,
    levels_in,
    write_picture,
    write_rows,
)
from dynq_basicsr.imaging.patch_grid import Box
from dynq_basicsr.imaging.picture_encoder import left_out
from dynq_basicsr.imaging.pictures import read_picture
from dynq_basicsr.runtime.progress import Progress
from dynq_basicsr.runtime.router import GraphError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Network(Protocol):
    """What upscales: a ``Router``, or a network in PyTorch that does the same."""

    @property
    def channels(self) -> int:
        """Of the images that it takes."""

    @property
    def scale(self) -> int:
        """Enlargement of the sides."""

    def boxes(self, image: np.ndarray) -> list[Box]:
        """See ``Router``."""

    def upscale(self, image: np.ndarray, levels: int, report: Callable[[str, int], None]) -> np.ndarray:
        """See ``Router``."""

    def strips(self, image: np.ndarray, levels: int, report: Callable[[str, int], None]) -> Iterator[np.ndarray]:
        """See ``Router``."""


def upscale_files(jobs: Sequence[Job], network: Network, overwrite: bool = False, most: int | None = None) -> int:
    """Upscale files, one after the other; those whose result is there already are left out.

    Prints a line for each image to stdout, and one for each failure to stderr.

    Args:
        jobs: Which, and what their results are called.
        network: What upscales them.
        overwrite: Upscale again what is already there.
        most: Pixels of a result; larger ones fail. None: any number.

    Returns:
        How many images failed.

    Raises:
        DynqError: If a graph is wrong, or the disk full.
    """
    for folder in {job.target.parent for job in jobs}:
        sweep(folder)
    progress, outcomes = Progress(len(jobs)), {'upscaled': 0, 'already there': 0, 'failed': 0}
    try:
        for job in jobs:
            try:
                if is_done(job.target) and not overwrite:
                    outcomes['already there'] += 1
                    progress.leave_out()
                    continue
                progress.end(_upscale_file(job, network, progress, most))
                outcomes['upscaled'] += 1
            except GraphError:  # no image would fare better
                raise
            except (DynqError, OSError, MemoryError) as error:
                progress.end(error=explained(job, error))
                outcomes['failed'] += 1
    finally:
        progress.close()
    told = ', '.join(f'{count} {what}' for what, count in outcomes.items() if count)
    print(f'{told or "nothing to do"}{progress.rate()}')
    return outcomes['failed']


def _upscale_file(job: Job, network: Network, progress: Progress, most: int | None) -> str:
    """Upscale one file and tell in a line how that went."""
    start = time.perf_counter()
    picture = read_picture(job.source, most, network.scale)
    check_format(picture, job.target, network.scale)
    progress.begin(job.source, len(network.boxes(picture.colour)))
    scale, (height, width) = network.scale, picture.colour.shape[:2]
    run, strips = (partial(how, report=progress.add) for how in (network.upscale, network.strips))
    upscaler, levels = Upscaler(network.channels, scale, run, strips), levels_in(job.target, picture.colour)
    if fits_in_rows(job.target, height * width * scale**2):
        write_rows(upscale_strips(picture, upscaler, levels), scale * height, job.target)
    else:
        write_picture(upscale_picture(picture, upscaler, levels), job.target)
    sizes = f'{width}x{height} -> {scale * width}x{scale * height}'
    line = f'{job.source}: {sizes}, {progress.codes()}, {time.perf_counter() - start:.1f} s'
    lost = [f'its {what} is left out' for what in left_out(picture, job.target.suffix.lower())]
    return '; '.join([line, *picture.metadata.notes, *lost])


def explained(job: Job, error: Exception) -> DynqError:
    """The sentence for an image that failed; where all others would fail as well, it is raised.

    Args:
        job: What was to be done.
        error: A ``DynqError``, ``OSError`` or ``MemoryError``.
    """
    if isinstance(error, NotWritten) and error.errno in DISK_FULL:
        raise DynqError(f'{error} Then give the same command again.') from error
    if isinstance(error, DynqError):
        text = str(error)
        named = any(str(path) in text for path in job)
        return error if named else DynqError(f'{job.source}: {text}')
    if isinstance(error, MemoryError):
        return DynqError(f'{job.source}: the image is too large for the memory of this machine; cut it into parts.')
    where = error.filename or job.source
    return DynqError(f'{where}: {error.strerror or error}; check the path and its permissions.')
