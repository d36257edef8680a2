"""Crops of several results side by side with the ground truth (AdaBM Fig. 3).

    dynq report crops --gt datasets/benchmarks/Urban100/HR --out pictures \\
        --results float=results/FLOAT/visualization/Urban100 quantized=results/QUANTIZED/visualization/Urban100

writes one picture for each image that every run has, from the folders that ``val.save_img: true`` leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.one_image import read_lr_image
from dynq_basicsr.report.sheet import Sheet

MARGIN, HEADER = 24, 60  # pixels around panels, and above them for titles
PANEL = 336  # about the side of an enlarged crop, pixels
MARK = '#f2c037'
Box = tuple[int, int, int, int]  # left, top, width, height in pixels of the ground truth


def largest_texture(image: np.ndarray, size: int) -> Box:
    """Find the square with the most texture: the largest sum of absolute differences between neighbours.

    Args:
        image: (H, W, 3) uint8.
        size: Side of the square, pixels; cut to the image where it is larger.
    """
    grey = image.astype(np.float64).mean(axis=2)
    texture = np.zeros_like(grey)
    texture[:, :-1] += np.abs(np.diff(grey, axis=1))
    texture[:-1] += np.abs(np.diff(grey, axis=0))
    height, width = grey.shape
    tall, wide = min(size, height), min(size, width)
    total = np.pad(texture, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    sums = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    top, left = np.unravel_index(np.argmax(sums), sums.shape)
    return int(left), int(top), wide, tall


def cut(image: np.ndarray, box: Box) -> np.ndarray:
    """Return the part of an image inside a box."""
    left, top, width, height = box
    return image[top : top + height, left : left + width]


def save_crops(
    gt: np.ndarray,
    results: Mapping[str, np.ndarray],
    path: str | Path,
    box: Box | None = None,
    size: int = 96,
    border: int = 4,
) -> Box:
    """Save one picture: the ground truth with the box marked, then the crop of each result and of the ground truth.

    Captions tell the PSNR of the luma, of the crop and of the whole image.

    Args:
        gt: The ground truth, (H, W, 3) uint8, BGR.
        results: Label -> result of the same size.
        path: PNG file to write; its folder is made.
        box: What to show; None: where the texture is largest.
        size: Side of the crop where ``box`` is None, pixels.
        border: Pixels at the border that PSNR of the whole image leaves out.

    Returns:
        The box that is shown.

    Raises:
        DynqError: If sizes differ, or the box lies outside.
    """
    height, width = gt.shape[:2]
    for label, image in results.items():
        if image.shape != gt.shape:
            raise DynqError(
                f'{label}: the result measures {image.shape[1]}x{image.shape[0]}, the ground truth {width}x{height}; '
                'give folders that belong together.'
            )
    left, top, wide, tall = box = box or largest_texture(gt, size)
    if min(left, top) < 0 or min(wide, tall) < 8 or left + wide > width or top + tall > height:
        raise DynqError(f'--box {left} {top} {wide} {tall}: must measure at least 8x8 and lie inside {width}x{height}.')
    factor = max(1, round(PANEL / tall))
    panel = (factor * wide, factor * tall)
    overview = (round(width * panel[1] / height), panel[1])
    corners = [MARGIN + overview[0] + MARGIN + index * (panel[0] + MARGIN // 2) for index in range(len(results) + 1)]
    sheet = Sheet((corners[-1] + panel[0] + MARGIN, HEADER + panel[1] + MARGIN))
    _draw_overview(sheet, overview, gt, box)
    for corner, (label, image) in zip(corners, {**results, 'ground truth': gt}.items(), strict=True):
        whole, part = _luma_psnr(image, gt, border), _luma_psnr(cut(image, box), cut(gt, box), 0)
        caption = 'PSNR of crop and image, dB' if image is gt else f'{part:.2f} dB, image {whole:.2f} dB'
        sheet.title((corner, HEADER), label, caption)
        enlarged = cv2.resize(cut(image, box), panel, interpolation=cv2.INTER_NEAREST)
        sheet.picture((corner, HEADER), enlarged)
    sheet.save(path)
    return box


def _draw_overview(sheet: Sheet, size: tuple[int, int], gt: np.ndarray, box: Box) -> None:
    from matplotlib.patches import Rectangle

    method = cv2.INTER_AREA if size[1] < gt.shape[0] else cv2.INTER_CUBIC
    axes = sheet.picture((MARGIN, HEADER), cv2.resize(gt, size, interpolation=method))
    sheet.title((MARGIN, HEADER), 'image', f'{gt.shape[1]} x {gt.shape[0]} pixels')
    left, top, width, height = np.array(box) * size[1] / gt.shape[0]
    for line, colour in ((3.4, 'black'), (2.0, MARK)):
        axes.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=colour, linewidth=line))


def _luma_psnr(image: np.ndarray, gt: np.ndarray, border: int) -> float:
    from basicsr.metrics.psnr_ssim import calculate_psnr

    return float(calculate_psnr(image, gt, crop_border=border, test_y_channel=True))


def match_results(gt_stems: Sequence[str], folder: Path) -> dict[str, Path]:
    """Find the result of each image in a folder of BasicSR's, ``<image>[x<scale>]_<suffix>.png``.

    Args:
        gt_stems: Names of ground truth files without ending.
        folder: One run and data set; its bit maps are passed over.

    Returns:
        Stem -> file.

    Raises:
        DynqError: If the folder is missing or holds two results of one image.
    """
    if not folder.is_dir():
        raise DynqError(f'{folder}: no such folder; val.save_img: true makes a test run leave its pictures there.')
    found: dict[str, Path] = {}
    for path in sorted(folder.glob('*.png')):
        if path.stem.endswith('_bits'):
            continue
        stems = [stem for stem in gt_stems if re.fullmatch(rf'{re.escape(stem)}(x\d)?(_.*)?', path.stem)]
        if stems:
            stem = max(stems, key=len)  # of `a` and `a_b`, `a_b_run.png` belongs to the second
            if stem in found:
                raise DynqError(f'{path} and {found[stem].name} are both results of {stem!r}; keep one run a folder.')
            found[stem] = path
    return found


def crop_folders(
    gt: Path, results: Mapping[str, Path], out: Path, box: Box | None = None, size: int = 96, border: int = 4
) -> list[Path]:
    """Write ``out/<image>_crops.png`` for each image that all runs have.

    Args:
        gt: Folder of ground truth.
        results: Label -> folder of results.
        out: Folder to write into.
        box: See ``save_crops``.
        size: See ``save_crops``.
        border: See ``save_crops``.

    Returns:
        The files written.

    Raises:
        DynqError: If a folder is missing, or no image is common to all.
    """
    if not gt.is_dir():
        raise DynqError(f'{gt}: no such folder of ground truth.')
    truths = {path.stem: path for path in sorted(gt.glob('*.png'))}
    runs = {label: match_results(list(truths), folder) for label, folder in results.items()}
    common = [stem for stem in truths if all(stem in run for run in runs.values())]
    if not common:
        raise DynqError(f'{gt}: no PNG image here has a result in each of {", ".join(map(str, results.values()))}.')
    written = []
    for stem in common:
        images = {label: read_lr_image(run[stem]) for label, run in runs.items()}
        written.append(out / f'{stem}_crops.png')
        save_crops(read_lr_image(truths[stem]), images, written[-1], box, size, border)
    return written
