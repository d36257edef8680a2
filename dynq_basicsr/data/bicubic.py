"""Make LR images from HR photographs, bit for bit as MATLAB's ``imresize`` does on uint8.

    dynq data bicubic --hr FOLDER [FOLDER ...] --out datasets/BSDS500_x4 --scale 4 [--lmdb]

writes ``OUT/HR/<name>.png`` (cropped to a multiple of the scale) and ``OUT/LR/<name>x4.png``. With ``--lmdb`` it
writes ``OUT/HR.lmdb`` and ``OUT/LR.lmdb`` instead, cut into tiles, which BasicSR's ``PairedImageDataset`` decodes
many times faster than whole photographs.

On uint8 MATLAB rounds to 8 bits after each of the two passes, rows first. BasicSR's float ``imresize`` does not,
and differs from the published LR files by one level in about a third of the pixels.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from dynq_basicsr.errors import DynqError

TILE = 160
SUFFIXES = {'.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff'}


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5, support [-2, 2]."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def contributions(length: int, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Which input samples make each output sample when a line shrinks, and by what weight.

    Args:
        length: Input samples; a multiple of ``scale``.
        scale: Integer shrinking factor, by which the kernel is widened against aliasing.

    Returns:
        Indices and weights, both of shape (length // scale, taps); borders are mirrored, rows of weights sum to 1.
    """
    centre = (np.arange(length // scale) + 0.5) * scale - 0.5
    left = np.floor(centre - 2 * scale).astype(np.int64)
    indices = left[:, None] + np.arange(4 * scale + 2)
    weights = cubic((centre[:, None] - indices) / scale)
    weights /= weights.sum(axis=1, keepdims=True)
    # Mirrored borders repeat with period 2 * length, which also covers images smaller than the kernel.
    indices = np.mod(indices, 2 * length)
    indices = np.where(indices < length, indices, 2 * length - 1 - indices)
    used = np.any(weights != 0, axis=0)
    return indices[:, used], weights[:, used]


def shrink_rows(image: np.ndarray, scale: int) -> np.ndarray:
    """Shrink axis 0 of a uint8 image and round to uint8, halves upwards as MATLAB does."""
    indices, weights = contributions(image.shape[0], scale)
    # One tap at a time: the sum never needs more memory than the output, and every step is vectorised.
    total = np.zeros((indices.shape[0], *image.shape[1:]))
    for tap in range(indices.shape[1]):
        total += weights[:, tap].reshape(-1, *(1,) * (image.ndim - 1)) * image[indices[:, tap]]
    return np.clip(np.floor(total + 0.5), 0, 255).astype(np.uint8)


def imresize_uint8(image: np.ndarray, scale: int) -> np.ndarray:
    """MATLAB's ``imresize(image, 1 / scale)`` for a uint8 image.

    Args:
        image: (H, W) or (H, W, C), uint8, both sides multiples of ``scale``.
        scale: Integer shrinking factor.

    Returns:
        (H / scale, W / scale) or (H / scale, W / scale, C), uint8.

    Raises:
        DynqError: If the image is not uint8 or its sides are no multiples of ``scale``.
    """
    if image.dtype != np.uint8:
        raise DynqError(f'expected an 8-bit image, got {image.dtype}.')
    if image.shape[0] % scale or image.shape[1] % scale:
        raise DynqError(f'an image of {image.shape[1]}x{image.shape[0]} is not divisible by {scale}; crop it first.')
    transposed = shrink_rows(image, scale).swapaxes(0, 1)
    return np.ascontiguousarray(shrink_rows(transposed, scale).swapaxes(0, 1))


def list_images(folders: Sequence[Path]) -> list[Path]:
    """All images directly inside the folders, in order of folder and name.

    Raises:
        DynqError: If a folder is missing or holds no image, or two images share a name.
    """
    images: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise DynqError(f'--hr: {folder} is not a folder.')
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise DynqError(f'--hr: {folder} holds no images ({", ".join(sorted(SUFFIXES))}).')
        for path in found:
            # LMDB keys end at the first dot, so that is where two names must differ.
            key = path.name.split('.')[0]
            if key in images:
                raise DynqError(f'{path} and {images[key]} would be written under the same name; rename one.')
            images[key] = path
    return list(images.values())


def read_photograph(path: Path) -> np.ndarray:
    """Read one photograph.

    Returns:
        (H, W) or (H, W, 3), uint8, channels in OpenCV's BGR order.

    Raises:
        DynqError: If the file cannot be decoded, is not 8-bit or has alpha.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DynqError(f'{path} cannot be decoded; replace or remove it.')
    if image.dtype != np.uint8 or (image.ndim == 3 and image.shape[2] != 3):
        raise DynqError(f'{path} has shape {image.shape} and type {image.dtype}; convert it to 8-bit grey or RGB.')
    return image


def crop_to_multiple(image: np.ndarray, scale: int) -> np.ndarray:
    """Cut off what exceeds a multiple of ``scale`` at the right and at the bottom."""
    height, width = (side - side % scale for side in image.shape[:2])
    return image[:height, :width]


def read_pair(path: Path, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one photograph; return its HR crop and its LR image.

    Returns:
        HR (H, W[, 3]) and LR (H / scale, W / scale[, 3]), uint8, channels in OpenCV's BGR order.

    Raises:
        DynqError: If the file cannot be decoded, is not 8-bit, has alpha or is smaller than ``scale``.
    """
    image = crop_to_multiple(read_photograph(path), scale)
    if not image.size:
        raise DynqError(f'{path} is smaller than {scale} pixels; remove it.')
    return image, imresize_uint8(image, scale)


def starts(length: int, size: int) -> list[int]:
    """Where tiles begin so that they cover a whole side: side by side, the last one moved back to end where it ends.

    Args:
        length: Of the side, at least ``size``.
        size: Of a tile.
    """
    return [*range(0, length - size, size), length - size]


def tiles(hr: np.ndarray, lr: np.ndarray, size: int, scale: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Cut a pair into tiles of ``size`` HR pixels that cover it, the last of a row and of a column overlapping.

    Yields:
        Position as ``_r<row>_c<column>``, HR tile, LR tile.
    """
    small = size // scale
    for row, top in enumerate(starts(hr.shape[0], size)):
        for column, left in enumerate(starts(hr.shape[1], size)):
            y, x = top // scale, left // scale
            yield f'_r{row}_c{column}', hr[top:top + size, left:left + size], lr[y:y + small, x:x + small]


def encode_png(image: np.ndarray, level: int) -> bytes:
    """Return the PNG file of an image, packed at zlib level ``level``."""
    return cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, level])[1].tobytes()


def write_folders(paths: Sequence[Path], out: Path, scale: int) -> int:
    """Write ``out/HR/<name>.png`` and ``out/LR/<name>x<scale>.png``; return the number of pairs."""
    for name in ('HR', 'LR'):
        (out / name).mkdir(parents=True)
    for path in paths:
        hr, lr = read_pair(path, scale)
        (out / 'HR' / f'{path.stem}.png').write_bytes(encode_png(hr, 3))
        (out / 'LR' / f'{path.stem}x{scale}.png').write_bytes(encode_png(lr, 3))
    return len(paths)


def write_lmdbs(paths: Sequence[Path], out: Path, scale: int, size: int) -> int:
    """Write tiles to ``out/HR.lmdb`` and ``out/LR.lmdb`` in BasicSR's layout; return the number of pairs.

    Raises:
        DynqError: If a photograph is smaller than one tile.
    """
    import lmdb

    level = 1  # quick to decode; BasicSR notes it in meta_info.txt
    # The map size is an upper bound that costs no disk: the file grows with what is written.
    environments = {name: lmdb.open(str(out / f'{name}.lmdb'), map_size=1 << 36) for name in ('HR', 'LR')}
    meta: dict[str, list[str]] = {name: [] for name in environments}
    for path in paths:
        hr, lr = read_pair(path, scale)
        if min(hr.shape[:2]) < size:
            raise DynqError(f'{path} is smaller than one tile; remove it or choose a --tile below {size}.')
        for position, *pair in tiles(hr, lr, size, scale):
            key = path.name.split('.')[0] + position
            for name, tile in zip(meta, pair, strict=True):
                with environments[name].begin(write=True) as transaction:
                    transaction.put(key.encode(), encode_png(tile, level))
                channels = tile.shape[2] if tile.ndim == 3 else 1
                meta[name].append(f'{key}.png ({tile.shape[0]},{tile.shape[1]},{channels}) {level}\n')
    for name, lines in meta.items():
        environments[name].close()
        (out / f'{name}.lmdb' / 'meta_info.txt').write_text(''.join(lines), encoding='utf-8')
    return len(meta['HR'])


def prepare(hr: Sequence[Path], out: Path, scale: int, lmdb: bool = False, tile: int | None = None) -> int:
    """Make LR images for every photograph.

    Args:
        hr: Folders of photographs.
        out: Folder to write; it must not yet hold what is written.
        scale: 2, 3 or 4.
        lmdb: Write tiled LMDBs instead of folders of PNG files.
        tile: Side of a tile of LMDBs in HR pixels, a multiple of ``scale``; None: the largest one up to ``TILE``.

    Returns:
        The number of pairs written.

    Raises:
        DynqError: On anything the user can mend; ``out`` is then as it was.
    """
    if tile is not None and not lmdb:
        raise DynqError(f'--tile {tile}: only LMDBs are cut into tiles; add --lmdb, or leave --tile out.')
    tile = TILE - TILE % scale if tile is None else tile
    if lmdb and (tile < scale or tile % scale):
        below = max(tile - tile % scale, scale)
        raise DynqError(f'--tile {tile} is not a positive multiple of --scale {scale}; give --tile {below}.')
    names = ('HR.lmdb', 'LR.lmdb') if lmdb else ('HR', 'LR')
    for name in names:
        if (out / name).exists():
            raise DynqError(f'{out / name} already exists; remove it to make it again.')
    paths = list_images(hr)
    out.mkdir(parents=True, exist_ok=True)
    # Written aside and moved at the end, so that a failure or a kill leaves no half-made data set behind.
    aside = Path(tempfile.mkdtemp(prefix='.unfinished_', dir=out))
    try:
        count = write_lmdbs(paths, aside, scale, tile) if lmdb else write_folders(paths, aside, scale)
        for name in names:
            os.replace(aside / name, out / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return count
