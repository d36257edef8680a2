"""``dynq report bitmaps``: draw the bits that LR pictures use.

    dynq report bitmaps --model FOLDER LR.png --out bits.png
    dynq report bitmaps -opt options/test_NAME.yml --checkpoint experiments/NAME/models/net_g_latest.pth \\
        PICTURES --out MAPS

The network is that of a folder of ``dynq quantize``, of a quantized checkpoint, or of an option file for tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dynq_basicsr.command import format_error
from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.require import require, require_basicsr
from dynq_basicsr.errors import DynqError, check_number
from dynq_basicsr.runtime.locate import checkpoint_of

if TYPE_CHECKING:
    from dynq_basicsr.imaging.image_files import Job

_OTHER_ENDINGS = ('.gif', '.pdf', '.svg')  # of files that somebody might want, besides pictures that can be read


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('pictures', type=Path, nargs='+', help='low-resolution pictures, or folders of them')
    what = 'the PNG file of one picture, or a folder'
    parser.add_argument('-o', '--output', '--out', dest='out', required=True, type=Path, metavar='PATH', help=what)
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument('--model', type=Path, help='a folder of dynq quantize, or a quantized checkpoint')
    network.add_argument('-opt', metavar='FILE', help='an option file for tests; its network_g, path and val are read')
    parser.add_argument('--checkpoint', type=Path, help='instead of path.pretrain_network_g of the option file')
    patches = (
        'side of the patches that bits are chosen for, LR pixels; 0: whole pictures (default: as the option file says, '
        'or so small that a picture has several)'
    )
    parser.add_argument('--patch', type=int, help=patches)
    add_plugin(parser)


def run(given: argparse.Namespace) -> int:
    """Draw them.

    Args:
        given: The command line.

    Returns:
        The exit code: 0, or 1 where a picture failed.

    Raises:
        DynqError: If the network does not fit.
    """
    if given.model and given.checkpoint:
        raise DynqError('--checkpoint: goes with -opt; name the checkpoint as --model.')
    if given.patch is not None:
        check_number('--patch', given.patch, 0, 2**16, whole=True)
    jobs = _jobs(given.pictures, given.out)
    require_basicsr()
    require('matplotlib')
    draw = _drawer_of_checkpoint(given) if given.model else _drawer_of_option_file(given)
    from dynq_basicsr.runtime.upscale_files import explained

    failed = 0
    for job in jobs:
        try:
            draw(job.source, job.target)
            print(f'{job.source}: {job.target}')
        except (DynqError, OSError, MemoryError) as error:
            print(format_error(explained(job, error)), file=sys.stderr)
            failed += 1
    return int(failed > 0)


def _jobs(pictures: Sequence[Path], out: Path) -> list[Job]:
    from dynq_basicsr.imaging.image_bytes import IMAGE_SUFFIXES
    from dynq_basicsr.imaging.image_files import Job, plan_jobs

    ending = out.suffix.lower()
    if out.is_dir() or ending not in (*IMAGE_SUFFIXES, *_OTHER_ENDINGS):
        jobs = plan_jobs(pictures, out, 'png', '_bits', advice='draw them into different folders')
    elif ending != '.png':
        raise DynqError(f'--out {out}: bit maps are PNG files; name a .png, or a folder.')
    elif len(pictures) > 1 or pictures[0].is_dir():
        raise DynqError(f'--out {out}: is a file, but there are several pictures; name a folder.')
    elif not pictures[0].is_file():
        raise DynqError(f'{pictures[0]}: no such file.')
    else:
        jobs = [Job(pictures[0], out)]
    _spare_pictures(jobs)
    return jobs


def _spare_pictures(jobs: Sequence[Job]) -> None:
    """Refuse a bit map in the place of any of the pictures, whatever its path."""
    pictures = {(found.st_dev, found.st_ino) for found in (job.source.stat() for job in jobs)}
    for source, target in jobs:
        if target.exists() and (target.stat().st_dev, target.stat().st_ino) in pictures:
            what = f'is one of the pictures; the bits of {source} would replace it'
            raise DynqError(f'{target}: {what}; name another --out.')


def _drawer_of_checkpoint(given: argparse.Namespace) -> Callable[[Path, Path], None]:
    from dynq_basicsr import api
    from dynq_basicsr.imaging.pictures import as_picture
    from dynq_basicsr.report.bit_map import telling_patch

    quantized = api.load(checkpoint_of(given.model), plugins=given.plugin)

    def draw(source: Path, target: Path) -> None:
        height, width = (picture := as_picture(source).colour).shape[:2]
        patch = telling_patch(height, width, quantized.tiling) if given.patch is None else given.patch
        quantized.bit_map(picture, target, patch or max(height, width))

    return draw


def _drawer_of_option_file(given: argparse.Namespace) -> Callable[[Path, Path], None]:
    from dynq_basicsr.report.bit_map import save_bit_map
    from dynq_basicsr.report.one_image import bits_used, load_model, read_lr_image, register_plugin

    register_plugin(given.plugin)
    patches = {} if given.patch is None else {'patch_size': given.patch or None}
    model = load_model(given.opt, given.checkpoint, **patches)
    if not getattr(model.network, 'calibrated', True):
        raise DynqError(f'{given.opt}: its network was never calibrated; name a calibrated one as --checkpoint.')

    def draw(source: Path, target: Path) -> None:
        lq = read_lr_image(source)
        save_bit_map(lq, bits_used(model, lq), target)

    return draw
