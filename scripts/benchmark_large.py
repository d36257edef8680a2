"""Measure patch-wise evaluation of large images: time a megapixel, and memory beyond the images themselves.

    python scripts/benchmark_large.py [-opt FILE ...] [--checkpoint FILE] [--sizes 1024x540 2048x1080 4096x2160]

The HR images are mosaics of Urban100: the middles of its photographs side by side, 512 x 540 pixels of each, in order,
so no DIV8K is needed. LR is the exact bicubic x4. Patches are Granular-DQ's: 96 pixels every 90, overlaps split in the
middle. Each row is measured in a process of its own, which has run one batch of patches before. ``images`` are LR and
result in float32; ``network`` is how far the memory of the process rises above what it held with LR loaded, less the
result: it depends on ``--batch``, and on the size of the last patches of rows and columns, which extend to the border
and so measure up to 185 pixels a side, but on nothing else of the image. It scatters from run to run, since freed
memory is kept (``models/allocator.py``) and what fits into it depends on chance: SRResNet took 555 to 978 MiB for one
image. ``process`` is its peak until then, with Python and torch. ``PSNR takes`` and ``SSIM takes`` are what BasicSR's
metrics allocate. Seconds are those of the clock, and of all threads' CPUs, which tell more where other work runs beside
this.

Without options, the small EDSR of the quick start, float and with AdaBM's quantizers. A quantized network that has no
calibrated checkpoint is calibrated for a moment, on eight patches of the mosaic: enough for time and memory, but not
for its PSNR to mean anything. Prints a Markdown table. Linux only: it reads the peak memory from ``/proc``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from dynq_basicsr.command import run_command
from dynq_basicsr.data.bicubic import imresize_uint8, list_images, read_photograph
from dynq_basicsr.errors import DynqError

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = [ROOT / f'options/quickstart_{name}.yml' for name in ('float', 'adabm_w4a4')]
SCALE = 4
TILE = (540, 512)  # height, width of what a mosaic takes of each photograph: every one of Urban100 is larger
PATCHES = {'patch_size': 96, 'patch_step': 90, 'patch_merge': 'split'}
CALIBRATION_PATCHES = 8
MIB = 2**20


def make_mosaic(paths: Sequence[Path], width: int, height: int) -> np.ndarray:
    """Lay the middles of photographs side by side, row by row; they begin anew when they are used up.

    Args:
        paths: Photographs of at least 540 x 512 pixels.
        width: Of the mosaic, pixels.
        height: Its height.

    Returns:
        (height, width, 3), uint8, BGR; tiles at the right and at the bottom are cut where they do not fit.

    Raises:
        DynqError: If a photograph is too small.
    """
    mosaic = np.zeros((height, width, 3), np.uint8)
    corners = [(top, left) for top in range(0, height, TILE[0]) for left in range(0, width, TILE[1])]
    for index, (top, left) in enumerate(corners):
        path = paths[index % len(paths)]
        image = read_photograph(path)
        if image.shape[0] < TILE[0] or image.shape[1] < TILE[1]:
            raise DynqError(f'{path} is smaller than {TILE[1]}x{TILE[0]}; give the HR images of Urban100.')
        y, x = ((side - tile) // 2 for side, tile in zip(image.shape, TILE, strict=False))
        tile = image[y : y + min(TILE[0], height - top), x : x + min(TILE[1], width - left)]
        mosaic[top : top + TILE[0], left : left + TILE[1]] = tile if tile.ndim == 3 else tile[..., None]
    return mosaic


def memory(what: str) -> int:
    """Bytes of memory: ``VmRSS``, now, or ``VmHWM``, the most since ``forget_peak``."""
    status = Path('/proc/self/status').read_text(encoding='ascii')
    return 1024 * int(re.search(rf'{what}:\s+(\d+)', status)[1])


def forget_peak() -> None:
    """Let the peak begin at what is held now."""
    Path('/proc/self/clear_refs').write_text('5', encoding='ascii')


def measure(
    option_file: Path, checkpoint: Path | None, hr: Path, lr: Path, val: dict, threads: int
) -> dict[str, float]:
    """Evaluate one image; runs in a process of its own.

    Args:
        option_file: Of the network.
        checkpoint: Instead of that of the option file.
        hr: A PNG file.
        lr: Its LR image.
        val: Options of the patches.
        threads: For torch.

    Returns:
        ``seconds``, ``cpu`` (seconds), ``psnr``, ``fab``, and bytes: ``images``, ``network``, ``process``,
        ``psnr_takes``, ``ssim_takes``.
    """
    import torch
    from basicsr.metrics import calculate_psnr, calculate_ssim

    from dynq_basicsr.models.patchwise_model import to_image
    from dynq_basicsr.report.one_image import as_batch, load_model, read_lr_image

    torch.set_num_threads(threads)
    model = load_model(option_file, checkpoint, **val)
    image = as_batch(read_lr_image(lr))
    calibrate(model.network, image)
    side = val['patch_size'] + val['patch_step'] * (val['patch_batch'] - 1)
    model.feed_data({'lq': image[..., : val['patch_size'], :side]})
    model.test()
    model.feed_data({'lq': image})
    forget_peak()
    before, start, cpu_start = memory('VmRSS'), time.perf_counter(), time.process_time()
    model.test()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    peak, result = memory('VmHWM'), model.output
    images = result.numel() * result.element_size()
    found, truth = to_image(result), read_lr_image(hr)
    psnr, psnr_takes = with_allocations(calculate_psnr, found, truth)
    _, ssim_takes = with_allocations(calculate_ssim, found, truth)
    return {
        'seconds': seconds,
        'cpu': cpu,
        'images': images + image.numel() * image.element_size(),
        'network': max(peak - before - images, 0),
        'process': peak,
        'psnr': psnr,
        'psnr_takes': psnr_takes,
        'ssim_takes': ssim_takes,
        'fab': model.usage.fab(),
    }


def with_allocations(metric: Callable[..., float], found: np.ndarray, truth: np.ndarray) -> tuple[float, int]:
    """A metric of two images, on Y without borders, and the most bytes that its arrays take at once."""
    tracemalloc.start()
    value = float(metric(found, truth, crop_border=SCALE, test_y_channel=True))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return value, most


def calibrate(net, image) -> None:
    """Calibrate a quantized network that is not, on patches of an image (1, 3, H, W)."""
    from dynq_basicsr.archs.quantized_arch import QuantizedSR
    from dynq_basicsr.quantization.clipping import Clipping
    from dynq_basicsr.training.calibration import Calibration

    if not isinstance(net, QuantizedSR) or net.calibrated:
        return
    size = PATCHES['patch_size']
    patches = image.unfold(2, size, size).unfold(3, size, size)[0].permute(1, 2, 0, 3, 4).flatten(0, 1)
    patches = patches[:: max(1, len(patches) // CALIBRATION_PATCHES)][:CALIBRATION_PATCHES].contiguous()
    calibration = Calibration(net.eval(), Clipping(bit_aware=False))
    for patch in patches.split(1):
        calibration.observe(patch.to(next(net.parameters()).device))
    calibration.finish()


def parse_size(text: str, option: str = '--sizes', scale: int = SCALE) -> tuple[int, int]:
    """Width and height of ``2048x1080``.

    Raises:
        DynqError: If it is none, or no multiple of the scale, or smaller than a patch, or larger than 32768 a side.
    """
    match = re.fullmatch(r'(\d+)x(\d+)', text)
    sides = tuple(map(int, match.groups())) if match else ()
    least = scale * PATCHES['patch_size']
    if not sides or any(side % scale or not least <= side <= 2**15 for side in sides):
        raise DynqError(f'{option} {text}: write WIDTHxHEIGHT, multiples of {scale} and {least} to {2**15} each.')
    return sides


def benchmark(given: argparse.Namespace) -> None:
    """Make the mosaics, measure every network on each, print the table."""
    if not Path('/proc/self/clear_refs').exists():
        raise DynqError('Peak memory is read from /proc; run this on Linux.')
    if given.batch < 1 or given.threads < 1:
        raise DynqError('--batch and --threads: give whole numbers from 1.')
    sizes = [parse_size(text) for text in given.sizes]
    paths = list_images([given.hr])
    val = PATCHES | {'patch_batch': given.batch, 'patch_merge': given.merge}
    print(f'{given.threads} threads, batches of {given.batch} patches of {PATCHES["patch_size"]} every '
          f'{PATCHES["patch_step"]} LR pixels, merge: {given.merge}; memory in MiB\n')  # fmt: skip
    headers = ('network', 'HR', 'megapixels', 'seconds', 's / megapixel', 'CPU s / megapixel', 'images', 'network',
               'process', 'PSNR takes', 'SSIM takes', 'PSNR', 'FAB')  # fmt: skip
    print(f'| {" | ".join(headers)} |\n{"|---" * len(headers)}|', flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for width, height in sizes:
            hr, lr = (Path(folder) / f'{width}x{height}{kind}.png' for kind in ('', f'x{SCALE}'))
            mosaic = make_mosaic(paths, width, height)
            for file, pixels in ((hr, mosaic), (lr, imresize_uint8(mosaic, SCALE))):
                cv2.imwrite(str(file), pixels)
            for option_file in given.opt:
                # a new process each time: memory that one has kept would hide what the next one needs
                with ProcessPoolExecutor(1, mp_context=get_context('spawn')) as one:
                    work = (option_file.resolve(), given.checkpoint, hr, lr, val, given.threads)
                    try:
                        figures = one.submit(measure, *work).result()
                    except BrokenProcessPool as error:
                        raise DynqError(
                            f'{option_file} at {width}x{height}: the process was killed; memory may not suffice.'
                        ) from error
                print(table_row(option_file.stem, width, height, figures), flush=True)


def table_row(network: str, width: int, height: int, figures: dict[str, float]) -> str:
    """One line of the table."""
    pixels = width * height / 1e6
    times = (figures['seconds'], figures['seconds'] / pixels, figures['cpu'] / pixels)
    sizes = [f'{figures[key] / MIB:.0f}' for key in ('images', 'network', 'process', 'psnr_takes', 'ssim_takes')]
    cells = (network, f'{width}x{height}', f'{pixels:.2f}', *(f'{one:.1f}' for one in times), *sizes,
             f'{figures["psnr"]:.2f}', f'{figures["fab"]:.2f}')  # fmt: skip
    return f'| {" | ".join(cells)} |'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('-opt', type=Path, nargs='+', default=DEFAULT, help='option files; their network is measured')
    parser.add_argument('--checkpoint', type=Path, help='instead of path.pretrain_network_g of the option files')
    parser.add_argument('--hr', type=Path, default=ROOT / 'datasets/benchmarks/Urban100/HR', metavar='FOLDER')
    parser.add_argument('--sizes', nargs='+', default=['1024x540', '2048x1080', '4096x2160'], metavar='WxH')
    parser.add_argument('--batch', type=int, default=4, help='patches that run together (default: 4)')
    parser.add_argument('--merge', choices=('split', 'average'), default='split', help='of overlaps')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    given = parser.parse_args(arguments)
    return run_command(lambda: benchmark(given))


if __name__ == '__main__':
    os.chdir(ROOT)  # option files name checkpoints relative to the project
    sys.exit(main())
