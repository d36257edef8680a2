"""From a float network to an adaptively quantized one, on photographs that are already on this machine.

    bash scripts/quickstart.sh

calls this in the project's environment. It makes ``datasets/quickstart`` from the photographs inside scikit-image, runs
``dynq quantize`` on the embedded network as any user would, and shows on four other photographs what it costs and
gives. Data are made once; ``results/quickstart`` is replaced.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
from quickstart_data import prepare_data

import dynq_basicsr
from dynq_basicsr.atomic import write_whole
from dynq_basicsr.command import run_command
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.bicubic import enlarge
from dynq_basicsr.report.crops import crop_folders
from dynq_basicsr.report.html_inputs import choose_pictures
from dynq_basicsr.report.html_make import make_report
from dynq_basicsr.report.one_image import read_lr_image
from dynq_basicsr.report.tables import format_table

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = 'dynq_basicsr/weights/edsr_small_x4.safetensors'
DATA, RESULTS = 'datasets/quickstart', 'results/quickstart'
PATCH = 40  # side of the patches that are upscaled, LR pixels: most of the photographs have 128 of these a side
MAP_PATCH = 24  # of those in the bit maps, which are small enough to lie in sky or in leaves alone
SCALE = 4


def quantize() -> None:
    """Run ``dynq quantize``; its words go to the terminal.

    Raises:
        DynqError: If it fails, which it has explained.
    """
    line = ['quantize', WEIGHTS, f'{DATA}/calibration/LR', '-o', f'{RESULTS}/model']
    print(f'dynq {" ".join(line)}', flush=True)
    if subprocess.run([sys.executable, '-m', 'dynq_basicsr', *line], cwd=ROOT).returncode:
        raise DynqError('dynq quantize failed; see above.')


def contestants(folder: Path) -> dict[str, tuple[Callable[[np.ndarray], np.ndarray], int | None]]:
    """What is compared: a name, a function from LR to SR, (H, W, 3) uint8, and its size on disk in bytes."""
    quantized = dynq_basicsr.load(folder / 'quantized.pth', device='cpu', patch=PATCH)
    graphs = dynq_basicsr.load(folder, patch=PATCH)

    def bicubic(image: np.ndarray) -> np.ndarray:
        enlarged = enlarge(image, (0, 0, *image.shape[:2]), SCALE)
        return np.rint(enlarged.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0)

    size = sum(path.stat().st_size for path in (*folder.glob('*.onnx'), folder / 'manifest.json'))
    return {
        'bicubic': (bicubic, None),
        'float': (quantized.reference, (ROOT / WEIGHTS).stat().st_size),
        'AdaBM W4A4': (graphs.upscale, size),
    }


def compare(folder: Path) -> str:
    """Upscale the four photographs each way, draw pictures, and lay out the one table."""
    from basicsr.metrics.psnr_ssim import calculate_psnr, calculate_ssim

    pairs = [(path, read_lr_image(path), read_lr_image(ROOT / DATA / f'eval/LR/{path.stem}x{SCALE}.png'))
             for path in sorted((ROOT / DATA / 'eval/HR').glob('*.png'))]  # fmt: skip
    ways = contestants(folder / 'model')
    rows, pictures = [], {}
    for name, (upscale, size) in ways.items():
        pictures[name] = folder / name
        pictures[name].mkdir()
        figures: list[tuple[float, float, float]] = []
        for path, truth, small in pairs:
            start = time.perf_counter()
            result = upscale(np.ascontiguousarray(small[..., ::-1]))[..., ::-1]
            seconds = time.perf_counter() - start
            (pictures[name] / path.name).write_bytes(cv2.imencode('.png', result)[1].tobytes())
            given = {'crop_border': SCALE, 'test_y_channel': True}
            figures.append((calculate_psnr(result, truth, **given), calculate_ssim(result, truth, **given), seconds))
        rows.append([name, *map(mean, zip(*figures, strict=True)), size])
    bits = draw(folder, pairs, pictures)
    return table(rows, bits)


def draw(folder: Path, pairs: Sequence[tuple], pictures: Mapping[str, Path]) -> float:
    """Draw a bit map of each photograph, and crops side by side; the mean bits of the patches that were upscaled."""
    quantized = dynq_basicsr.load(folder / 'model/quantized.pth', device='cpu', patch=PATCH)
    used = []
    for path, _, small in pairs:
        image = np.ascontiguousarray(small[..., ::-1])
        used.append(quantized.bits(image).fab())
        quantized.bit_map(image, folder / f'{path.stem}_bits.png', MAP_PATCH)
    crop_folders(ROOT / DATA / 'eval/HR', pictures, folder)
    return mean(used)


def report(folder: Path) -> Path:
    """Write the page that shows all of it, for any browser; the file."""
    quantized = dynq_basicsr.load(folder / 'model/quantized.pth', device='cpu')
    pictures = ROOT / DATA / 'eval'
    choice = choose_pictures(folder / 'model', [pictures / 'LR'], pictures / 'HR', 4)
    write_whole(folder / 'report.html', make_report(quantized, folder / 'model', choice, PATCH))
    return folder / 'report.html'


def table(rows: Sequence[Sequence], bits: float) -> str:
    """Lay out figures: name, PSNR, SSIM, seconds, bytes (None: nothing to store)."""
    cells = [
        [
            name,
            f'{psnr:.2f} dB',
            f'{ssim:.4f}',
            {'bicubic': '-', 'float': '32'}.get(name, f'{bits:.2f}'),
            '-' if size is None else f'{size / 1e6:.2f} MB',
            f'{seconds:.2f} s',
        ]
        for name, psnr, ssim, seconds, size in rows
    ]
    return format_table(['network', 'PSNR', 'SSIM', 'mean bits', 'size on disk', 'an image'], cells)


def quickstart(began: float, installed: float) -> None:
    """Run everything.

    Args:
        began: When the installation began, seconds since the epoch.
        installed: When it ended.
    """
    folder = ROOT / RESULTS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    prepare_data(ROOT / DATA)
    quantize()
    text = compare(folder)
    (folder / 'table.txt').write_text(text + '\n', encoding='utf-8')
    pictures = ', '.join(sorted(path.name for path in folder.glob('*.png')))
    page = report(folder).relative_to(ROOT)
    print(
        f'\n{text}\n\n'
        'PSNR and SSIM of the luma, mean of 4 photographs, x4. Mean bits: of the activations of quantized layers, in\n'
        f'patches of {PATCH}x{PATCH}. Float runs in PyTorch, the quantized network as integers in ONNX Runtime.\n'
        f'Installation {installed - began:.0f} s, everything {time.time() - began:.0f} s.\n'
        f'Pictures in {RESULTS}: {pictures}\n'
        f'All of it in a browser: {page}\n'
        'Your own: dynq quantize CHECKPOINT PICTURES -o FOLDER'
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    now = time.time()
    parser.add_argument('--began', type=float, default=now, help='when the installation began, seconds since the epoch')
    parser.add_argument('--installed', type=float, default=now, help='when it ended')
    given = parser.parse_args(arguments)
    return run_command(lambda: quickstart(given.began, given.installed))


if __name__ == '__main__':
    sys.exit(main())
