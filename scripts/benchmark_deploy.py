"""Measure frozen networks against float ones: time an image, peak memory, PSNR, and what the router itself takes.

    python scripts/benchmark_deploy.py --model MODEL_DIR [...] --opt options/test_srresnet_x4.yml
        --images datasets/benchmarks/Urban100 --count 10 [--threads 2] [--turns 3] [--json deploy.json]

One run, the same images, the same patches: PyTorch float32 (contiguous and channels-last) and bfloat16 (autocast), ONNX
Runtime float32, OpenVINO float32 and bfloat16 (where installed; the models need ``dynq export --qdq`` for it), and of
each ``--model`` the middle number of bits for all patches (static) and policy, crop and stitch (routed).
``--flat-threshold`` adds rows with the cheaper tier for flat patches, ``--only routed`` leaves out contestants whose
name does not hold that word, and ``--mosaic 4096x2160`` takes one mosaic of the HR images instead of the images (as
``benchmark_large.py``), to see what flat patches of large images are worth. Every contestant has a process of its own;
they take turns, and times and ratios are medians over the turns. Memory is the peak of a process, with Python and the
libraries. ``router`` is the share of the time that is not spent in graphs.

``--images`` holds ``LR_bicubic/X<scale>`` and ``HR`` as the benchmarks do, or is a plain folder of LR images, for which
there is no PSNR (on Y, ``scale`` pixels of border left out). Prints a Markdown table. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median

import cv2
import numpy as np
from benchmark_large import make_mosaic, parse_size
from deploy_contestants import Contestant, Process, export_float, fix_code, tiling_of

from dynq_basicsr.data.bicubic import imresize_uint8, list_images
from dynq_basicsr.errors import DynqError, check_number
from dynq_basicsr.runtime.manifest import Manifest
from dynq_basicsr.runtime.router import RunOptions

REFERENCES = ('PyTorch float32', 'ONNX Runtime float32', 'OpenVINO float32')
MIB = 2**20


def find_images(folder: Path, scale: int, count: int) -> list[tuple[Path, Path | None]]:
    """LR images of a folder, evenly picked, and the HR image of each, or None.

    Raises:
        DynqError: If there are none.
    """
    lr, hr = folder / f'LR_bicubic/X{scale}', folder / 'HR'
    lr = lr if lr.is_dir() else folder
    files = sorted(lr.glob('*.png'))
    if not files:
        raise DynqError(f'--images {lr}: holds no PNG images.')
    picked = [files[index] for index in np.unique(np.linspace(0, len(files) - 1, min(count, len(files))).astype(int))]
    truths = [hr / f'{path.stem.removesuffix(f"x{scale}")}.png' for path in picked]
    return [(path, truth if truth.is_file() else None) for path, truth in zip(picked, truths, strict=True)]


def lay_mosaic(folder: Path, size: str, scale: int, work: Path) -> Path:
    """Write a mosaic of a benchmark's HR images and its LR image; gives the folder of both."""
    width, height = parse_size(size, '--mosaic', scale)
    if not (folder / 'HR').is_dir():
        raise DynqError(f'--mosaic: {folder} holds no folder HR; name a benchmark in --images.')
    mosaic = make_mosaic(list_images([folder / 'HR']), width, height)
    for kind, image in (('HR', mosaic), (f'LR_bicubic/X{scale}', imresize_uint8(mosaic, scale))):
        (work / kind).mkdir(parents=True)
        cv2.imwrite(str(work / kind / 'mosaic.png'), image)
    return work


def psnr(result: Path, truth: Path, border: int) -> float:
    """BasicSR's PSNR in dB on Y; what the HR image has beyond the result is cut off."""
    from basicsr.metrics import calculate_psnr  # here, so that no contestant's process imports it

    image = cv2.imread(str(result))
    rows, columns = image.shape[:2]
    return float(calculate_psnr(image, cv2.imread(str(truth))[:rows, :columns], border, test_y_channel=True))


def contestants(given: argparse.Namespace, work: Path) -> list[Contestant]:
    """Everything that is measured, in the order of the table; graphs are written below ``work``."""
    tiling = tiling_of(given.model[0], given.batch)
    run = RunOptions(threads=given.threads, tiling=tiling)
    runtimes = [('ONNX Runtime', run)]
    if find_spec('openvino'):
        runtimes.append(('OpenVINO', replace(run, runtime='openvino')))
    found = [
        Contestant('PyTorch float32', run, option_file=given.opt),
        Contestant('PyTorch float32, channels-last', run, option_file=given.opt, layout='channels_last'),
        Contestant('PyTorch bfloat16', run, option_file=given.opt, layout='channels_last', bfloat16=True),
    ]
    for name, options in runtimes:
        found.append(Contestant(f'{name} float32', options, work / 'float'))
        if options.runtime == 'openvino':
            found.append(Contestant(f'{name} bfloat16', replace(options, precision='bf16'), work / 'float'))
    for number, model in enumerate(given.model):
        code = fix_code(model, work / f'static{number}')
        for name, options in runtimes:
            found.append(Contestant(f'{model.name} static ({code}), {name}', options, work / f'static{number}'))
            found.append(Contestant(f'{model.name} routed, {name}', options, model))
            for threshold in given.flat_threshold:
                flat = replace(options, flat_threshold=threshold)
                found.append(Contestant(f'{model.name} routed, bicubic below {threshold:g}, {name}', flat, model))
    wanted = [one for one in found if given.only in one.name]
    if not wanted:
        names = ', '.join(one.name for one in found)
        raise DynqError(f'--only {given.only}: no contestant has that in its name; there are {names}.')
    if any(one.folder == work / 'float' for one in wanted):
        with ProcessPoolExecutor(1, get_context('spawn')) as pool:
            pool.submit(export_float, given.opt, work / 'float').result()
    return wanted


def measure(given: argparse.Namespace, images: list, everyone: list[Contestant], work: Path) -> list[dict]:
    """Let contestants take turns; one row each. One that cannot run is left out, with its reason on stderr."""
    files, processes = [path for path, _ in images], {}
    for number, contestant in enumerate(everyone):
        try:
            processes[contestant.name] = Process(contestant, files, work / f'results{number}'), number
        except DynqError as error:
            print(f'dynq_basicsr: {error}', file=sys.stderr)
    turns = {name: [] for name in processes}
    for _ in range(given.turns):
        for name, (process, _) in processes.items():
            turns[name].append(process.turn())
    totals = {name: [sum(turn['seconds']) for turn in each] for name, each in turns.items()}
    rows, scale = [], Manifest.load(given.model[0]).scale
    for name, (process, number) in processes.items():
        values = [psnr(work / f'results{number}' / path.name, truth, scale) for path, truth in images if truth]
        shares = [
            1 - turn['network'] / sum(turn['seconds']) for turn in turns[name] if turn['network'] is not None
        ]
        rows.append({
            'name': name,
            'seconds': median(totals[name]) / len(files),
            'ratios': {
                one: median(a / b for a, b in zip(totals[one], totals[name], strict=True))
                for one in REFERENCES if one in totals
            },
            'peak': process.close(),
            'psnr': mean(values) if values else None,
            'router': median(shares) if shares else None,
            'patches': turns[name][0]['patches'],
            'turns': turns[name],
        })  # fmt: skip
    return rows


def table(rows: list[dict]) -> str:
    """Rows as Markdown."""
    references = [one for one in REFERENCES if any(one in row['ratios'] for row in rows)]
    heads = ['contestant', 's / image', *(f'x {one}' for one in references), 'MiB', 'PSNR', 'router', 'patches']
    lines = [f'| {" | ".join(heads)} |', '|---' * len(heads) + '|']
    for row in rows:
        codes = ', '.join(f'{code} {count}' for code, count in sorted(row['patches'].items()))
        cells = [
            row['name'], f'{row["seconds"]:.3f}', *(f'{row["ratios"][one]:.2f}' for one in references),
            f'{row["peak"] / MIB:.0f}', '' if row['psnr'] is None else f'{row["psnr"]:.3f}',
            '' if row['router'] is None else f'{row["router"]:.1%}', codes,
        ]  # fmt: skip
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def processor() -> str:
    """The processor's name and those of its instructions that matter here."""
    text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    name = next((line.split(':')[1].strip() for line in text.splitlines() if line.startswith('model name')), 'unknown')
    flags = set(next((line for line in text.splitlines() if line.startswith('flags')), '').split())
    known = ('avx2', 'avx512_vnni', 'avx_vnni', 'amx_int8', 'amx_bf16')
    return ', '.join([name, *(one for one in known if one in flags)])


def benchmark(given: argparse.Namespace) -> None:
    """Measure, print the table, write the JSON file."""
    scales = {Manifest.load(model).scale for model in given.model}
    if len(scales) > 1:
        raise DynqError('--model: the networks enlarge by different scales; measure them one after the other.')
    scale = scales.pop()
    for key in ('count', 'threads', 'batch', 'turns'):
        check_number(f'--{key}', getattr(given, key), 1, whole=True)
    if given.json and not given.json.parent.is_dir():
        raise DynqError(f'--json {given.json}: its folder does not exist; make it first.')
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = given.images
        if given.mosaic:
            source = lay_mosaic(given.images, given.mosaic, scale, work / 'mosaic')
        images = find_images(source, scale, given.count)
        rows = measure(given, images, contestants(given, work), work)
    print(f'{processor()}; {given.threads} threads, {len(images)} images, batches of {given.batch}, '
          f'{given.turns} turns\n\n{table(rows)}', flush=True)  # fmt: skip
    if given.json:
        facts = {'processor': processor(), 'threads': given.threads, 'batch': given.batch,
                 'images': [str(path) for path, _ in images], 'rows': rows}  # fmt: skip
        given.json.write_text(json.dumps(facts, indent=1), encoding='utf-8')


def main() -> int:
    from dynq_basicsr.command import run_command

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', type=Path, nargs='+', required=True, help='model folders, as of both scopes')
    parser.add_argument('--opt', type=Path, required=True, help='option file of the float network')
    parser.add_argument('--images', type=Path, required=True, help='a benchmark folder, or one of LR images')
    parser.add_argument('--count', type=int, default=5, help='images (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--batch', type=int, default=4, help='patches that run together (default: %(default)s)')
    parser.add_argument('--turns', type=int, default=3)
    parser.add_argument('--flat-threshold', type=float, nargs='*', default=[], help='gradient densities')
    parser.add_argument('--only', default='', help='word in the names of the contestants that are wanted')
    parser.add_argument('--mosaic', metavar='WIDTHxHEIGHT', help='one mosaic instead of the images')
    parser.add_argument('--json', type=Path, help='also write all figures to this file')
    given = parser.parse_args()
    os.environ['OMP_NUM_THREADS'] = str(given.threads)  # of the contestants, which inherit it
    return run_command(lambda: benchmark(given))


if __name__ == '__main__':
    sys.exit(main())
