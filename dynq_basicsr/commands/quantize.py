"""``dynq quantize MODEL IMAGES... -o FOLDER``: from a checkpoint and a folder of pictures to a network that runs.

No option file, no ground truth. FOLDER becomes a model folder for ``dynq upscale``; beside its graphs lie the
checkpoint, the option file that does the same through BasicSR with the list of its pictures, a bit map, and a report
for any browser.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field, fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from dynq_basicsr.atomic import NotWritten, followed
from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.require import require, require_basicsr
from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.runtime.choices import CHECKPOINT
from dynq_basicsr.settings import Settings

if TYPE_CHECKING:
    from dynq_basicsr.workflow.quantized import Quantized

OPTION_FILE, PICTURES, BIT_MAP, REPORT = 'options.yml', 'pictures.txt', 'bits.png', 'report.html'
REPORTED = 2  # pictures at most
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
    network.add_argument('--value-range', type=float, help='what the network takes for white, as 1 or 255')
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

    given.began = time.perf_counter()
    given.output = followed(given.output)
    if given.output.name in ('', '..'):
        given.output = given.output.resolve()
    for path in (given.model, given.output, *given.plugin):
        _check_text(path)
    check_target(given.output)
    keep_freed_memory()
    prepare_output(given.output.parent)
    work = given.output.with_name(f'.{given.output.name}.work')
    with _alone(given.output):
        try:
            return _quantize(given, work)
        except KeyboardInterrupt:
            how = 'the same command goes on from there.' if work.exists() else GENERIC
            print(f'dynq_basicsr: interrupted; {how}', file=sys.stderr)
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
    size, failure = write(quantized, given)
    if failure is None:
        write_report(quantized, given.output)
    with suppress(OSError):
        work.unlink()
    if failure:
        checkpoint = given.output / CHECKPOINT
        raise DynqError(f'{failure} The network is quantized: its checkpoint is {checkpoint}.') from failure
    print(table(quantized, given, size))
    print(f'{given.output}: {", ".join(sorted(path.name for path in given.output.iterdir()))}')
    if quantized.report['refusal']:
        print(f'No model folder: {quantized.report["refusal"]}')
    print(f'To look at: {given.output / REPORT}')
    print(f'Next: dynq upscale -m {shlex.quote(str(given.output))} PICTURES -o RESULTS')
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


def write(quantized: Quantized, given: argparse.Namespace) -> tuple[int, DynqError | None]:
    """Write the folder, whole.

    Returns:
        The bytes of what runs: graph and manifest, or the checkpoint where there is none; and why there is none
        although nothing was known against it.
    """
    from dynq_basicsr.backbones.torch_files import to_bytes
    from dynq_basicsr.workflow.option_file import picture_list

    also = {
        CHECKPOINT: to_bytes(quantized.checkpoint()),
        OPTION_FILE: _option_file(quantized, given).encode(),
        PICTURES: picture_list(quantized.report['files']),
        BIT_MAP: _bit_map(quantized),
    }
    folder, bare = given.output, len(also[CHECKPOINT])
    if given.no_export or quantized.report['refusal']:
        _write_alone(folder, also)
        return bare, None
    print('Exporting it, which checks every layer at every bit-width ...', file=sys.stderr)
    try:
        return quantized.export(folder, also).size, None
    except NotWritten:  # neither could the checkpoint alone be; what is there stays
        raise
    except DynqError as error:
        _write_alone(folder, also)
        return bare, error


def _write_alone(folder: Path, files: Mapping[str, bytes]) -> None:
    """A folder without graphs."""
    from dynq_basicsr.export.model_folder import writing_folder

    with writing_folder(folder) as writer:
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


def write_report(quantized: Quantized, folder: Path) -> None:
    """Add the page that shows the network on pictures which were left out of calibration."""
    from dynq_basicsr.export.model_folder import add_to_folder
    from dynq_basicsr.report.html_inputs import Choice
    from dynq_basicsr.report.html_make import make_report

    made = quantized.report
    files = made['held_out_files'] or made['files'][:1]
    words = 'Pictures were left out of calibration.' if made['held_out'] else 'The picture is one of calibration.'
    page = make_report(quantized, folder, Choice([(file, None) for file in files[:REPORTED]], words))
    add_to_folder(folder, REPORT, page.encode(errors='backslashreplace'))


def table(quantized: Quantized, given: argparse.Namespace, size: int) -> str:
    """What a reader wants to know, in two rows."""
    report, before = quantized.report, given.model.stat().st_size
    seconds = report['earlier'] + time.perf_counter() - given.began
    psnr = 'equal' if math.isinf(report['psnr']) else f'{report["psnr"]:.2f} dB'
    rows = [
        ('network', 'size on disk', 'mean bits', 'agreement', 'seconds'),
        ('float', _bytes(before), '32', '', ''),
        (
            f'{given.method} W{given.weight_bits or given.bits}A{given.bits}',
            _bytes(size),
            f'{report["bits"]:.2f}',
            psnr,
            f'{seconds:.0f}',
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ['  '.join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    where = 'what it was calibrated with, as there was nothing else'
    if report['held_out']:
        where = f'{_pictures(report["held_out"])} left out of calibration'
    seen = _pictures(report['images'])
    lines.append(f'Calibrated with {seen}; agreement: PSNR between the results of both networks on {where}.')
    if size > before and not given.no_export and not report['refusal']:
        lines.append('Larger, as the graph and the numbers of each choice of bits take more than its few weights save.')
    return '\n'.join(lines)


def _pictures(count: int) -> str:
    return f'{count} picture{"" if count == 1 else "s"}'


def _bytes(count: int) -> str:
    return f'{count / 1e6:.2f} MB'


