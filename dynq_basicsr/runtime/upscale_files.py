"""The loop over files: each is upscaled, left out because its result is there, or reported and left out."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from dynq_basicsr.atomic import NotWritten, sweep
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.colours import Upscaler, upscale_picture
from dynq_basicsr.imaging.image_files import Job, levels_in, write_picture
from dynq_basicsr.imaging.patch_grid import Box
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


def upscale_files(jobs: Sequence[Job], network: Network, overwrite: bool = False) -> int:
    """Upscale files, one after the other; those whose result is there already are left out.

    Prints a line for each image to stdout, and one for each failure to stderr.

    Args:
        jobs: Which, and what their results are called.
        network: What upscales them.
        overwrite: Upscale again what is already there.

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
            if job.target.exists() and not overwrite:
                outcomes['already there'] += 1
                progress.end()
                continue
            try:
                progress.end(_upscale_file(job, network, progress))
                outcomes['upscaled'] += 1
            except GraphError:  # no image would fare better
                raise
            except (DynqError, OSError, MemoryError) as error:
                progress.end(error=_explained(job, error))
                outcomes['failed'] += 1
    finally:
        progress.close()
    print(', '.join(f'{count} {what}' for what, count in outcomes.items() if count))
    return outcomes['failed']


def _upscale_file(job: Job, network: Network, progress: Progress) -> str:
    """Upscale one file and tell in a line how that went."""
    start = time.perf_counter()
    picture = read_picture(job.source)
    progress.begin(job.source, len(network.boxes(picture.colour)))
    upscaler = Upscaler(network.channels, network.scale, partial(network.upscale, report=progress.add))
    result = upscale_picture(picture, upscaler, levels_in(job.target, picture.colour))
    write_picture(result, job.target)
    sizes = ' -> '.join('x'.join(map(str, one.colour.shape[1::-1])) for one in (picture, result))
    return f'{job.source}: {sizes}, {progress.codes()}, {time.perf_counter() - start:.1f} s'


def _explained(job: Job, error: Exception) -> DynqError:
    """The sentence for an image that failed; where all others would fail as well, it is raised."""
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
