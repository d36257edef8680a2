"""``dynq data bicubic``: LR images from HR photographs, bit for bit as MATLAB's ``imresize`` makes them on uint8."""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr.doctor.require import require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--hr', nargs='+', type=Path, required=True, metavar='FOLDER', help='folders of photographs')
    parser.add_argument('--out', type=Path, required=True, help='folder to write, e.g. datasets/BSDS500_x4')
    parser.add_argument('--scale', type=int, choices=(2, 3, 4), default=4, help='default: %(default)s')
    parser.add_argument('--lmdb', action='store_true', help='write tiled LMDBs instead of folders of PNG files')
    what = 'side of an LMDB tile in HR pixels (default: 160, of scale 3 159); tiles cover each photograph'
    parser.add_argument('--tile', type=int, help=what)


def run(given: argparse.Namespace) -> None:
    """Make them.

    Args:
        given: The command line.

    Raises:
        DynqError: On anything that the user can mend; nothing is written then.
    """
    require('cv2', *(['lmdb'] if given.lmdb else []))
    from dynq_basicsr.data.bicubic import prepare

    count = prepare(given.hr, given.out, given.scale, given.lmdb, given.tile)
    print(f'{given.out}: {count} pairs')
