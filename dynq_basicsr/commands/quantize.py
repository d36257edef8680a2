"""``dynq quantize MODEL IMAGES... -o FOLDER``: from a checkpoint and a folder of pictures to a network that runs.

No option file, no ground truth. FOLDER becomes a model folder for ``dynq upscale``; beside its graphs lie the
checkpoint, the option file that does the same through BasicSR with the list of its pictures, and a bit map.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from dynq_basicsr.atomic import NotWritten
from dynq_basicsr.commands.arguments import CHECKPOINT, add_plugin
from dynq_basicsr.doctor.require import require, require_basicsr
from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.runtime.choices import MANIFEST
from dynq_basicsr.settings import Settings

if TYPE_CHECKING:
    from dynq_basicsr.workflow.quantized import Quantized

OPTION_FILE, PICTURES, BIT_MAP = 'options.yml', 'pictures.txt', 'bits.png'
MARKS = (MANIFEST, CHECKPOINT)
PANEL = 384  # side of the bit map at most, LR pixels


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('model', type=Path, help='the float checkpoint: BasicSR, a community file, ours')
    parser.add_argument('images', type=Path, nargs='+', help='low-resolution pictures, or folders of them')
    parser.add_argument('-o', '--output', type=Path, required=True, metavar='FOLDER', help='the model folder to write')
    how = parser.add_argument_group('how')
    how.add_argument('--bits', type=int, help='base bits of activations, 2 to 8 (default: %(default)s)')
    how.add_argument('--weight-bits', type=int, help='of weights, 2 to 8 (default: as --bits)')
    how.add_argument('--method', help='adabm, minmax, percentile or ptq4sr (default: %(default)s)')
    how.add_argument('--recipe', help="fast, plus or paper (default: the method's first)")
    how.add_argument('--scope', choices=('body', 'full'), help='full: head and tail at 8 bits, too')
    how.add_argument('--calibration', type=int, metavar='N', help='pictures, at most (default: %(default)s)')
    how.add_argument('--device', help='auto, cpu, cuda, ...')
    how.add_argument('--seed', type=int, help='of the choice of pictures and crops (default: %(default)s)')
    network = parser.add_argument_group('the network, where the checkpoint is not recognised')
    what = 'architecture and its options, last of all: --arch EDSR num_in_ch=3 num_out_ch=3 num_feat=64'
    network.add_argument('--arch', nargs='+', metavar=('NAME', 'key=value'), help=what)
    network.add_argument('--scale', type=int, help='the enlargement')
    network.add_argument('--value-range', type=float, help='what the network takes for white: 1 or 255')
    add_plugin(network)
    parser.add_argument('--no-export', action='store_true', help='write the checkpoint, but no graphs')
    parser.set_defaults(**{one.name: one.default for one in _settings() if one.default is not MISSING})


def _settings() -> list[Field]:
    """Those of the function that the command has, too; ``output`` is its folder."""
    return [one for one in fields(Settings) if one.name != 'output']


def run(given: argparse.Namespace) -> int:
    """Quantize.

    Args:
        given: The command line.

    Returns:
        The exit code: 0, or 130 when interrupted.

    Raises:
        DynqError: If something is missing or does not fit.
    """
    require_basicsr()
    require('matplotlib', *(() if given.no_export else ('onnx', 'onnxruntime')))
    from dynq_basicsr.cli import GENERIC
    from dynq_basicsr.export.model_folder import check_target
    from dynq_basicsr.imaging.image_files import prepare_output
    from dynq_basicsr.numerics.allocator import keep_freed_memory

    if given.output.name in ('', '..'):
        given.output = given.output.resolve()
    for path in (given.model, given.output, *given.plugin):
        _check_text(path)
    check_target(given.output, MARKS)
    keep_freed_memory()
    prepare_output(given.output.parent)
    work = given.output.with_name(f'.{given.output.name}.work')
    with _alone(given.output):
        try:
            return _quantize(given, work)
        except KeyboardInterrupt:
            print(f'dynq_basicsr: interrupted; the same command {"goes on from there" if work.exists() else GENERIC}',
                  file=sys.stderr)  # fmt: skip
            return 130


def _check_text(path: str | Path) -> None:
    """Refuse a path that the option file could not hold, before minutes are spent."""
    try:
        os.path.abspath(path).encode()
    except UnicodeEncodeError:
        raise DynqError(f'{path}: its name is not UTF-8, which option files are; rename it, or the folder.') from None


def _quantize(given: argparse.Namespace, work: Path) -> int:
    from dynq_basicsr import api

    settings = {one.name: getattr(given, one.name) for one in _settings()}
    quantized = api.quantize(
        **settings
        | {'arch': read_arch(given.arch), 'plugins': given.plugin, 'work': work, 'exports': not given.no_export}
    )
    print(f'{given.model}: {quantized.report["found"]}')
    for note in quantized.report['notes']:
        print(f'Pictures: {note}.')
    size = write(quantized, given)
    print(table(quantized, given, size))
    print(f'{given.output}: {", ".join(sorted(path.name for path in given.output.iterdir()))}')
    if quantized.report['refusal']:
        print(f'No model folder: {quantized.report["refusal"]}')
    print(f'Next: dynq upscale -m {given.output} PICTURES -o RESULTS')
    return 0


@contextmanager
def _alone(output: Path) -> Iterator[None]:
    """Keep a second command from writing the same folder at the same time."""
    from filelock import FileLock, Timeout

    file = output.with_name(f'.{output.name}.lock')
    try:
        with FileLock(file, timeout=0):
            try:
                yield
            finally:
                with suppress(OSError):  # Windows removes no file that is open
                    file.unlink()
    except Timeout:
        raise DynqError(f'{output}: another command is at work on it; wait for it, or name another folder.') from None


def read_arch(words: list[str] | None) -> dict[str, object] | None:
    """``NAME key=value ...`` as the options of an architecture.

    Raises:
        DynqError: If a word behind the name is no assignment.
    """
    if not words:
        return None
    from dynq_basicsr.compat.safe_yaml import parse_value

    options: dict[str, object] = {'type': words[0]}
    for word in words[1:]:
        key, equals, value = word.partition('=')
        if not equals or not key:
            raise DynqError(f'--arch: write options as key=value, not {shown(word)}.')
        if key == 'type':
            raise DynqError(f'--arch: the architecture is named first, here {words[0]}; leave type out.')
        options[key] = parse_value(value)
    return options


def write(quantized: Quantized, given: argparse.Namespace) -> int:
    """Write the folder, whole; the bytes of what runs: the graphs, or the checkpoint where there are none."""
    from dynq_basicsr.backbones.torch_files import to_bytes
    from dynq_basicsr.workflow.option_file import picture_list

    also = {
        CHECKPOINT: to_bytes(quantized.checkpoint()),
        OPTION_FILE: _option_file(quantized, given).encode(),
        PICTURES: picture_list(quantized.report['files']),
        BIT_MAP: _bit_map(quantized),
    }
    if given.no_export or quantized.report['refusal']:
        _write_alone(given.output, also)
        return len(also[CHECKPOINT])
    try:
        quantized.export(given.output, also, MARKS)
    except NotWritten:  # neither could the checkpoint alone be; what is there stays
        raise
    except DynqError as error:
        _write_alone(given.output, also)
        raise DynqError(f'{error} The network is quantized: its checkpoint is {given.output / CHECKPOINT}.') from error
    return sum(path.stat().st_size for path in given.output.glob('*.onnx') if not path.name.endswith('.qdq.onnx'))


def _write_alone(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder without graphs."""
    from dynq_basicsr.export.model_folder import writing_folder

    with writing_folder(folder, MARKS) as writer:
        for name, content in files.items():
            writer.add(name, content)


def _option_file(quantized: Quantized, given: argparse.Namespace) -> str:
    from dynq_basicsr.workflow.option_file import option_file

    network = quantized.network
    return option_file(
        given.output, given.output / PICTURES, quantized.report, network.scale, next(network.parameters()).device,
        given.seed, given.plugin,
    )  # fmt: skip


def _bit_map(quantized: Quantized) -> bytes:
    """The bits of a picture that was left out of calibration."""
    from dynq_basicsr.report.bit_map import telling_patch

    sample = quantized.report['sample'][..., :PANEL, :PANEL]
    array = sample.numpy() if sample.dtype.itemsize == 1 else sample.mul(255).round().byte().numpy()
    picture = BytesIO()
    quantized.bit_map(array.transpose(1, 2, 0), picture, telling_patch(*sample.shape[-2:], quantized.tiling))
    return picture.getvalue()


def table(quantized: Quantized, given: argparse.Namespace, size: int) -> str:
    """What a reader wants to know, in two rows."""
    report = quantized.report
    psnr = 'equal' if math.isinf(report['psnr']) else f'{report["psnr"]:.2f} dB'
    rows = [
        ('network', 'size on disk', 'mean bits', 'agreement', 'seconds'),
        ('float', _bytes(given.model.stat().st_size), '32', '', ''),
        (
            f'{given.method} W{given.weight_bits or given.bits}A{given.bits}',
            _bytes(size),
            f'{report["bits"]:.2f}',
            psnr,
            f'{report["seconds"]:.0f}',
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ['  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    where = 'what it was calibrated with, as there was nothing else'
    if report['held_out']:
        where = f'{_pictures(report["held_out"])} left out of calibration'
    seen = _pictures(report['images'])
    lines.append(f'Calibrated with {seen}; agreement: PSNR between the results of both networks on {where}.')
    return '\n'.join(lines)


def _pictures(count: int) -> str:
    return f'{count} picture{"" if count == 1 else "s"}'


def _bytes(count: int) -> str:
    return f'{count / 1e6:.2f} MB'


