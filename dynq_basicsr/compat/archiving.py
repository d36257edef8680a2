"""Repair of how BasicSR moves the folder of an earlier run out of the way."""

from __future__ import annotations

import os
import sys

from basicsr import utils
from basicsr.utils import misc

_MODULES = (utils, misc, sys.modules['basicsr.train'])


def directory_not_empty_when_archiving_twice() -> None:
    """Let a folder be archived twice within a second.

    Symptom: ``OSError: [Errno 39] Directory not empty: 'NAME' -> 'NAME_archived_TIME'``.
    Cause: BasicSR names archives by the second.
    Cure: where that name is taken, it goes on with ``_2``, ``_3`` and so on.
    """
    for module in _MODULES:
        module.mkdir_and_rename = _mkdir_and_rename


def _mkdir_and_rename(path: str) -> None:
    if os.path.exists(path):
        archive = f'{path}_archived_{misc.get_time_str()}'
        plain, count = archive, 1
        while os.path.lexists(archive):
            count += 1
            archive = f'{plain}_{count}'
        print(f'Path already exists. Rename it to {archive}', flush=True)
        os.rename(path, archive)
    os.makedirs(path, exist_ok=True)
