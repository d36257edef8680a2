"""``dynq report entropies``: draw the entropies of a data set's patches, and the bits that they get.

    dynq report entropies -opt options/granular_NAME.yml --out entropies.png
    dynq report entropies -opt options/test_granular_x4.yml --set test_4 \\
        --checkpoint experiments/NAME/models/net_g_latest.pth --out entropies.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.require import require, require_basicsr
from dynq_basicsr.errors import DynqError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('-opt', required=True, help='an option file of GranularDQModel, or one for tests')
    parser.add_argument('--checkpoint', type=Path, help='whose thresholds to draw (default: quantiles of the patches)')
    parser.add_argument('--out', required=True, type=Path, help='the PNG file to write')
    parser.add_argument('--set', dest='name', help='key in datasets (default: train, or else the first one)')
    parser.add_argument('--patches', type=int, default=2000, help='of a training set (default: %(default)s)')
    add_plugin(parser)


def run(given: argparse.Namespace) -> None:
    """Draw them, and tell the share of each bit-width.

    Args:
        given: The command line.

    Raises:
        DynqError: If the option file, the checkpoint or the data do not fit.
    """
    if given.patches < 2:
        raise DynqError(f'--patches {given.patches}: give at least 2.')
    require_basicsr()
    require('matplotlib')
    from dynq_basicsr.report import entropies as report
    from dynq_basicsr.report.one_image import register_plugin

    register_plugin(given.plugin)
    trained = given.checkpoint and report.thresholds_of_checkpoint(given.opt, given.checkpoint)
    entropies, name, what = report.measure(given.opt, given.name, given.patches)
    thresholds = trained or report.thresholds_of_quantiles(given.opt, entropies)
    report.draw_entropies(entropies, thresholds, given.out, f'Entropy of the patches of {name}', what)
    parts = zip(thresholds.bits, thresholds.split(entropies), strict=True)
    shares = ', '.join(f'{bits} bits {100 * len(part) / len(entropies):.1f} %' for bits, part in parts)
    print(f'{given.out}: {len(entropies)} {what}, {shares}')
