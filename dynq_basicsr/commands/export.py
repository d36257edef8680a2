"""``dynq export CHECKPOINT -o FOLDER``: a quantized checkpoint becomes a folder of graphs that compute in integers.

The folder has one graph, and a manifest with the policy and the grids of each bit assignment that it can choose.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.require import require, require_basicsr
from dynq_basicsr.errors import DynqError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('checkpoint', nargs='?', type=Path, help='a quantized checkpoint, which describes its network')
    parser.add_argument('--checkpoint', dest='instead', type=Path, metavar='FILE', help='the same, as an option')
    parser.add_argument(
        '-o', '--output', '--out', type=Path, required=True, metavar='FOLDER', help='the model folder to write'
    )
    patches = 'side of the patches that bits are chosen for, LR pixels (default: %(default)s); 0: whole images'
    parser.add_argument('--patch', type=int, default=96, help=patches)
    parser.add_argument('--step', type=int, help='distance between patches (default: they touch)')
    what = 'an option file for tests: its patches count, its network where no checkpoint is named'
    parser.add_argument('-opt', metavar='FILE', help=what)
    what = 'measure the data sets of the option file, too, for the manifest'
    parser.add_argument('--expected', action='store_true', help=what)
    what = 'write the network for OpenVINO and other runtimes, too, not for ONNX Runtime alone'
    parser.add_argument('--qdq', action='store_true', help=what)
    add_plugin(parser)


def run(given: argparse.Namespace) -> None:
    """Export.

    Args:
        given: The command line.

    Raises:
        DynqError: If something is missing, or the network cannot be frozen exactly.
    """
    checkpoint = given.checkpoint or given.instead
    if checkpoint is None and not given.opt:
        raise DynqError('dynq export: name the quantized checkpoint.')
    if given.expected and not given.opt:
        raise DynqError('--expected: measures the data sets of an option file; name it with -opt.')
    require_basicsr()
    require('onnx', 'onnxruntime')
    from dynq_basicsr import api
    from dynq_basicsr.imaging.patch_grid import TilingOptions
    from dynq_basicsr.registration import register
    from dynq_basicsr.workflow.tested import export_tested, summary

    if given.opt:
        register(given.plugin)
        exported = export_tested(given.opt, checkpoint, given.output, given.expected, given.qdq)
    else:
        quantized = api.load(checkpoint, device='cpu', plugins=given.plugin)
        quantized.tiling = TilingOptions(given.patch or None, given.step)
        exported = quantized.export(given.output, qdq=given.qdq)
    print(summary(given.output, exported))
