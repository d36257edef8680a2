"""``dynq report crops``: draw crops of results beside the ground truth, with PSNR.

    dynq report crops --gt datasets/benchmarks/Urban100/HR --out pictures \\
        --results float=results/RUN_A/visualization/Urban100 AdaBM=results/RUN_B/visualization/Urban100
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr.doctor.require import require, require_basicsr
from dynq_basicsr.errors import DynqError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--gt', required=True, type=Path, help='folder of ground truth (PNG)')
    parser.add_argument('--results', required=True, nargs='+', metavar='LABEL=FOLDER', help='folder of each run')
    parser.add_argument('--out', required=True, type=Path, help='folder to write into')
    sides = ('LEFT', 'TOP', 'WIDTH', 'HEIGHT')
    shown = 'what to show, pixels of the ground truth (default: where the texture is largest)'
    parser.add_argument('--box', nargs=4, type=int, metavar=sides, help=shown)
    parser.add_argument('--size', type=int, default=96, help='side of the crop without --box (default: %(default)s)')
    parser.add_argument('--border', type=int, default=4, help='border that PSNR leaves out (default: %(default)s)')


def run(given: argparse.Namespace) -> None:
    """Draw them.

    Args:
        given: The command line.

    Raises:
        DynqError: If folders or images do not fit.
    """
    pairs = [run.partition('=') for run in given.results]
    wrong = [run for run, (label, _, folder) in zip(given.results, pairs, strict=True) if not label or not folder]
    if wrong:
        raise DynqError(f'--results {wrong[0]}: write LABEL=FOLDER, as in float=results/RUN/visualization/Set5.')
    require_basicsr()
    require('matplotlib')
    from dynq_basicsr.report.crops import crop_folders

    runs = {label: Path(folder) for label, _, folder in pairs}
    written = crop_folders(given.gt, runs, given.out, given.box and tuple(given.box), given.size, given.border)
    print(f'{given.out}: {len(written)} pictures')
