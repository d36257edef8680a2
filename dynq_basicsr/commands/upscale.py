"""``dynq upscale``: upscale images with a frozen network, on the CPU; or with a quantized checkpoint, in PyTorch."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.parts import CORE
from dynq_basicsr.doctor.require import require
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.choices import FORMATS, RUNTIMES
from dynq_basicsr.runtime.locate import checkpoint_of, is_checkpoint

if TYPE_CHECKING:
    from dynq_basicsr.imaging.patch_grid import TilingOptions
    from dynq_basicsr.runtime.router import Router
    from dynq_basicsr.runtime.upscale_files import Network

MOST_PIXELS = 10**9
INTERRUPTED = 'the same command goes on with what is missing.'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('input', nargs='+', type=Path, help='images, or folders of them')
    parser.add_argument(
        '-m', '--model', required=True, type=Path, metavar='FOLDER',
        help='what `dynq quantize` or `dynq export` wrote; or a quantized checkpoint, which runs in PyTorch',
    )  # fmt: skip
    parser.add_argument('-o', '--output', required=True, type=Path, metavar='FOLDER', help='where results go')
    files = parser.add_argument_group('files')
    files.add_argument('--recursive', action='store_true', help='look into folders below the folders, too')
    what = 'of results; jpg has quality 95, webp is without loss, same: as the input (default: png)'
    files.add_argument('--format', default='png', choices=FORMATS, help=what)
    files.add_argument('--suffix', help='behind the names of results (default: _x4 for scale 4, and so on)')
    files.add_argument('--overwrite', action='store_true', help='upscale again what is already there')
    what = 'take every N-th file from the I-th on, 1/N to N/N: for N machines that see the same files'
    files.add_argument('--shard', type=_shard, metavar='I/N', help=what)
    what = f'of a result; larger ones are refused (default: {MOST_PIXELS})'
    files.add_argument('--max-pixels', type=_from(1), default=MOST_PIXELS, metavar='N', help=what)
    run = parser.add_argument_group('run')
    run.add_argument('--runtime', choices=RUNTIMES, help=f'default: {RUNTIMES[0]}')
    run.add_argument('--threads', type=_from(1), help=f'default: all cores, here {_cores()}')
    run.add_argument('--batch', type=_from(1), help='patches that run together (default: as the model says)')
    run.add_argument('--device', help='of a checkpoint: auto, cpu, cuda, ... (default: auto)')
    add_plugin(run)
    patches = parser.add_argument_group('patches, in pixels of the input; default: as the network was evaluated')
    patches.add_argument('--patch', type=_from(0), help='side of a patch; 0: whole images')
    steps = patches.add_mutually_exclusive_group()
    steps.add_argument('--overlap', type=_from(0), help='of neighbouring patches')
    steps.add_argument('--step', type=_from(1), help='distance between patches')
    patches.add_argument('--merge', choices=('average', 'split'), help='overlaps: averaged, or split in the middle')
    what = 'overlapping patches fade into each other over so many pixels'
    patches.add_argument('--feather', type=_from(0), default=0, help=what)
    flat = parser.add_argument_group('flat patches')
    what = 'what patches get that have hardly any texture, instead of the network (default: none)'
    flat.add_argument('--flat-tier', default='none', choices=('none', 'bicubic'), help=what)
    what = 'gradient density (0 for one colour, photographs 5 to 60) below which a patch is flat'
    flat.add_argument('--flat-threshold', type=float, help=what)


def _from(least: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f'must be at least {least}')
        return int(text)

    return whole_number


def _shard(text: str) -> tuple[int, int]:
    match = re.fullmatch(r'(\d+)/(\d+)', text)
    index, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= index <= count:
        raise argparse.ArgumentTypeError('must be I/N, 1/N to N/N')
    return index, count


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def choose_tiling(given: argparse.Namespace, default: TilingOptions) -> TilingOptions:
    """The grid of patches: what was given, the rest as the manifest says.

    Args:
        given: ``patch``, ``overlap``, ``step``, ``merge``, ``feather``.
        default: The manifest's.

    Raises:
        DynqError: If they contradict each other.
    """
    merge = given.merge or default.patch_merge
    size = default.patch_size if given.patch is None else given.patch or None
    if size is None:
        if given.overlap or given.step:
            raise DynqError('--overlap, --step: the whole image is one patch; give --patch, too.')
        return replace(default, patch_size=None, patch_step=None, patch_merge=merge)
    if given.step is not None:
        name, overlap = f'--step {given.step}', size - given.step
    elif given.overlap is not None:
        name, overlap = f'--overlap {given.overlap}', given.overlap
    else:
        name, overlap = f'--feather {given.feather}', max(min(default.overlap, size - 1), given.feather)
    if not 0 <= overlap < size:
        raise DynqError(f'{name}: patches of {size} pixels need steps of 1 to {size}.')
    return replace(default, patch_size=size, patch_step=size - overlap, patch_merge=merge)


def flat_threshold(given: argparse.Namespace) -> float:
    """The gradient density below which patches are flat; 0: none.

    Raises:
        DynqError: If one of the two options lacks the other.
    """
    if given.flat_tier == 'none':
        if given.flat_threshold is not None:
            raise DynqError('--flat-threshold: give --flat-tier bicubic, too.')
        return 0.0
    if given.flat_threshold is None or not given.flat_threshold > 0:
        raise DynqError('--flat-tier bicubic: give the --flat-threshold, a number above 0, too.')
    return given.flat_threshold


def run(given: argparse.Namespace) -> int:
    """Upscale what was given.

    Args:
        given: The command line.

    Returns:
        The exit code: 0, or 1 where an image failed.

    Raises:
        DynqError: If nothing can run.
    """
    require(*CORE, 'cv2', 'PIL')
    import cv2

    from dynq_basicsr.imaging.image_bytes import IMAGE_SUFFIXES
    from dynq_basicsr.imaging.image_files import pictures_skipped, plan_jobs, prepare_output, words_for
    from dynq_basicsr.runtime.upscale_files import upscale_files

    cv2.setNumThreads(1)  # patches are too small to share
    network = _in_pytorch(given) if is_checkpoint(given.model) else _router(given)
    suffix = f'_x{network.scale}' if given.suffix is None else given.suffix
    if '/' in suffix or os.sep in suffix:
        raise DynqError(f'--suffix {suffix}: give a part of a name, without folders.')
    jobs = plan_jobs(given.input, given.output, given.format, suffix, given.recursive)
    if given.shard:
        index, count = given.shard
        jobs = sorted(jobs)[index - 1 :: count]
    prepare_output(given.output)
    skipped = pictures_skipped(given.input, given.recursive)
    if skipped:
        taken = ', '.join(IMAGE_SUFFIXES)
        print(f'{words_for(skipped)} skipped; of folders, {taken} are taken', file=sys.stderr)
    return int(upscale_files(jobs, network, given.overwrite, given.max_pixels) > 0)


def _router(given: argparse.Namespace) -> Router:
    """The network of a model folder."""
    if given.device or given.plugin:
        raise DynqError(f'--device, --plugin: they are for checkpoints; {given.model} is a model folder.')
    runtime = given.runtime or RUNTIMES[0]
    require(runtime)
    from dynq_basicsr.runtime.manifest import Manifest
    from dynq_basicsr.runtime.router import Router, RunOptions

    options = RunOptions(
        runtime,
        given.threads or _cores(),
        tiling=choose_tiling(given, Manifest.load(given.model).tiling),
        feather=given.feather,
        batch=given.batch,
        flat_threshold=flat_threshold(given),
    )
    return Router(given.model, options)


def _in_pytorch(given: argparse.Namespace) -> Network:
    """A quantized checkpoint."""
    foreign = [f'--{name}' for name in ('runtime', 'threads', 'batch', 'feather') if getattr(given, name)]
    if given.flat_tier != 'none' or given.flat_threshold is not None:
        foreign.append('--flat-tier')
    if foreign:
        raise DynqError(f'{", ".join(foreign)}: for model folders alone; `dynq export {given.model}` makes one.')
    from dynq_basicsr import api
    from dynq_basicsr.workflow.quantized import PatchwiseNetwork

    quantized = api.load(checkpoint_of(given.model), device=given.device or 'auto', plugins=given.plugin)
    quantized.tiling = choose_tiling(given, quantized.tiling)
    return PatchwiseNetwork(quantized)
