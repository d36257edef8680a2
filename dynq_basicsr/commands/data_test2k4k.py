"""``dynq data test2k4k``: the benchmarks Test2K and Test4K from the training images of DIV8K."""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr.doctor.require import require

SETS = ('Test2K', 'Test4K')
INTERRUPTED = 'the same command goes on with what is missing.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--div8k', type=Path, required=True, metavar='FOLDER', help='the training images of DIV8K')
    parser.add_argument('--out', type=Path, required=True, help='folder of benchmarks, e.g. datasets/benchmarks')
    parser.add_argument('--sets', nargs='+', choices=SETS, default=list(SETS), help='default: both')


def run(given: argparse.Namespace) -> None:
    """Make them, or what an interrupted run left to do.

    Args:
        given: The command line.

    Raises:
        DynqError: If images are missing, damaged or too small.
    """
    require('cv2')
    from dynq_basicsr.data.test2k4k import prepare

    prepare(given.div8k, given.out, given.sets)
