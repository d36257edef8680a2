"""``dynq report FOLDER [PICTURES ...] -o report.html``: everything about a quantized network on one page.

    dynq report model/ photos/ -o report.html
    dynq report experiments/NAME datasets/benchmarks/Set5/LR_bicubic/X4 --gt datasets/benchmarks/Set5/HR -o report.html

Bicubic, float and quantized results side by side, bit maps, the largest differences, figures, charts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.require import require_basicsr
from dynq_basicsr.errors import DynqError, check_number

MOST = 24  # pictures, for which 10 MB are little already


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    what = 'a folder of dynq quantize, a run of BasicSR (experiments/NAME), or a quantized checkpoint'
    parser.add_argument('network', type=Path, help=what)
    shown = 'low-resolution pictures, or folders (default: of calibration, or of validation)'
    parser.add_argument('pictures', type=Path, nargs='*', help=shown)
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='FILE', help='the HTML file to write')
    parser.add_argument('--gt', type=Path, metavar='FOLDER', help='of ground truth, of the same names')
    parser.add_argument('--count', type=int, default=6, help='pictures, at most (default: %(default)s)')
    patches = (
        'side of the patches that bits are chosen for, LR pixels; 0: whole pictures (default: so small that a picture '
        'has several)'
    )
    parser.add_argument('--patch', type=int, help=patches)
    add_plugin(parser)


def run(given: argparse.Namespace) -> None:
    """Write it.

    Args:
        given: The command line.

    Raises:
        DynqError: If the network, a picture or the file does not fit.
    """
    check_number('--count', given.count, 1, MOST, whole=True)
    if given.patch is not None:
        check_number('--patch', given.patch, 0, 2**16, whole=True)
    if given.output.suffix.lower() not in ('.html', '.htm') or given.output.is_dir():
        raise DynqError(f'--output {given.output}: the report is one file; name it report.html.')
    require_basicsr()
    from dynq_basicsr import api
    from dynq_basicsr.atomic import write_whole
    from dynq_basicsr.imaging.image_files import prepare_output
    from dynq_basicsr.report.html_inputs import choose_pictures, find_checkpoint
    from dynq_basicsr.report.html_make import make_report

    checkpoint = find_checkpoint(given.network)
    choice = choose_pictures(given.network, given.pictures, given.gt, given.count)
    prepare_output(given.output.parent)
    quantized = api.load(checkpoint, plugins=given.plugin)
    write_whole(given.output, make_report(quantized, given.network, choice, given.patch))
    count = len(choice.pairs)
    size = given.output.stat().st_size / 1e6
    print(f'{given.output}: {count} picture{"" if count == 1 else "s"}, {size:.1f} MB')
