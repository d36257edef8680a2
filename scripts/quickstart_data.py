"""The photographs of the quick start: those inside scikit-image's wheel, so nothing is downloaded.

    python scripts/quickstart_data.py [FOLDER]

makes ``datasets/quickstart``: 100 LR images to calibrate with, and four other photographs with their LR images to
evaluate.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from dynq_basicsr.command import run_command
from dynq_basicsr.data.bicubic import imresize_uint8, prepare
from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.one_image import read_lr_image

ROOT = Path(__file__).resolve().parent.parent
SCALE = 4
EVALUATION = ('astronaut.png', 'coffee.png', 'motorcycle_left.png', 'rocket.jpg')
# Not motorcycle_right.png: it shows what its left twin shows.
CALIBRATION = (
    'brick.png', 'camera.png', 'chelsea.png', 'coins.png', 'grass.png', 'gravel.png', 'hubble_deep_field.jpg',
    'ihc.png', 'moon.png', 'retina.jpg',
)  # fmt: skip
TILE = 96  # side of a calibration image, pixels


def photograph(name: str) -> np.ndarray:
    """Read one of scikit-image's photographs.

    Args:
        name: A file inside its wheel; nothing is downloaded.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        DynqError: If this scikit-image does not bring it.
    """
    import skimage

    path = Path(skimage.__file__).parent / 'data' / name
    if not path.is_file():
        raise DynqError(f'{path} is missing; install a scikit-image whose wheel brings it, such as 0.25.')
    return read_lr_image(path)


def calibration_tiles(image: np.ndarray) -> list[np.ndarray]:
    """Cut ten LR images out of a photograph: nine of its half, spread evenly, and the middle of its third.

    Args:
        image: (H, W, 3) uint8, at least 288 pixels a side.

    Returns:
        Ten of (96, 96, 3).
    """
    height, width = (side - side % 6 for side in image.shape[:2])
    image = image[:height, :width]
    half, third = imresize_uint8(image, 2), imresize_uint8(image, 3)

    def tile(source: np.ndarray, row: float, column: float) -> np.ndarray:
        centres = zip((row, column), source.shape, strict=False)
        top, left = (min(max(round(share * side) - TILE // 2, 0), side - TILE) for share, side in centres)
        return source[top : top + TILE, left : left + TILE]

    shares = (1 / 6, 1 / 2, 5 / 6)
    return [tile(half, row, column) for row in shares for column in shares] + [tile(third, 1 / 2, 1 / 2)]


def prepare_data(folder: Path) -> bool:
    """Make the calibration and evaluation images, which are disjoint.

    Args:
        folder: Gets ``calibration/LR`` (100 images) and ``eval/{HR,LR}``; left alone where it exists.

    Returns:
        Whether it was made now.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made aside and moved in one step, so that an interrupted run leaves nothing half-made.
    aside = Path(tempfile.mkdtemp(prefix='.quickstart_', dir=folder.parent))
    try:
        originals, tiles = aside / 'originals', aside / 'calibration' / 'LR'
        originals.mkdir()
        tiles.mkdir(parents=True)
        for name in EVALUATION:
            write_png(originals / f'{Path(name).stem}.png', photograph(name))
        prepare([originals], aside / 'eval', SCALE)
        shutil.rmtree(originals)
        for name in CALIBRATION:
            for index, tile in enumerate(calibration_tiles(photograph(name))):
                write_png(tiles / f'{Path(name).stem}_{index}.png', tile)
        aside.chmod(0o755)
        os.replace(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return True


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image, with an error where the disk refuses it."""
    path.write_bytes(cv2.imencode('.png', image)[1].tobytes())


if __name__ == '__main__':
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'datasets/quickstart'
    sys.exit(run_command(lambda: print(f'{target}: {"made now" if prepare_data(target) else "is there already"}')))
