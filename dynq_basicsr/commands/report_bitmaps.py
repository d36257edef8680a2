"""``dynq report bitmaps``: draw the bits that one LR image uses.

    dynq report bitmaps -opt options/test_NAME.yml --image LR.png --out bits.png \\
        [--checkpoint experiments/NAME/models/net_g_latest.pth]

draws one for any LR image, with the network and the patches of any option file for tests.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.require import require, require_basicsr


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('-opt', required=True, help='an option file for tests; its network_g, path and val are read')
    parser.add_argument('--checkpoint', type=Path, help='instead of path.pretrain_network_g of the option file')
    parser.add_argument('--image', required=True, type=Path, help='the LR image')
    parser.add_argument('--out', required=True, type=Path, help='the PNG file to write')
    add_plugin(parser)


def run(given: argparse.Namespace) -> None:
    """Draw it.

    Args:
        given: The command line.

    Raises:
        DynqError: If the option file, the checkpoint or the image does not fit.
    """
    require_basicsr()
    require('matplotlib')
    from dynq_basicsr.report.bit_map import save_bit_map
    from dynq_basicsr.report.one_image import read_lr_image, register_plugin, use_network

    register_plugin(given.plugin)
    lq = read_lr_image(given.image)
    save_bit_map(lq, use_network(given.opt, lq, given.checkpoint), given.out)
