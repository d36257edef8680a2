"""The command that draws the bit map of an image.

    python -m dynq_basicsr.report.bitmaps -opt options/test_NAME.yml --image LR.png --out bits.png \\
        [--checkpoint experiments/NAME/models/net_g_latest.pth]

draws one for any LR image, with the network and the patches of any option file for tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dynq_basicsr.command import run_command
from dynq_basicsr.report.bit_map import save_bit_map
from dynq_basicsr.report.one_image import read_lr_image, use_network


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Args:
        arguments: Without the program's name; None: those of this process.

    Returns:
        The exit code: 0, or 2 after an error that the user can mend.
    """
    prog = 'python -m dynq_basicsr.report.bitmaps'
    parser = argparse.ArgumentParser(prog=prog, description='Draw the bits that one LR image uses.')
    parser.add_argument('-opt', required=True, help='an option file for tests; its network_g, path and val are read')
    parser.add_argument('--checkpoint', type=Path, help='instead of path.pretrain_network_g of the option file')
    parser.add_argument('--image', required=True, type=Path, help='the LR image')
    parser.add_argument('--out', required=True, type=Path, help='the PNG file to write')
    given = parser.parse_args(arguments)

    def draw() -> None:
        lq = read_lr_image(given.image)
        save_bit_map(lq, use_network(given.opt, lq, given.checkpoint), given.out)

    return run_command(draw)


if __name__ == '__main__':
    sys.exit(main())
