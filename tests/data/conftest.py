"""Real photographs from scikit-image's wheel, as folders and as LMDBs."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from skimage import data

NAMES = ('astronaut', 'chelsea', 'coffee', 'rocket')
SCALE = 2


def _write_image(path, rgb):
    assert cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]) if rgb.ndim == 3 else rgb)
    return path


def _as_lmdb(folder, target):
    names = sorted(path.name for path in folder.iterdir())
    make_lmdb_from_imgs(str(folder), str(target), names, [name.rsplit('.', 1)[0] for name in names],
                        map_size=64 * 2**20)
    return target


@pytest.fixture(scope='session')
def write_image():
    return _write_image


@pytest.fixture(scope='session')
def as_lmdb():
    return _as_lmdb


@pytest.fixture
def shared_data():
    folder = Path(__file__).parents[3] / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip('../shared/data is absent')
    return folder


@pytest.fixture(scope='session')
def photos():
    """name -> (192 - 8k, 240, 3) uint8 RGB, every one of another height."""
    return {name: getattr(data, name)()[40:232 - 8 * k, 60:300] for k, name in enumerate(NAMES)}


@pytest.fixture
def folders(tmp_path, photos):
    """Folders HR and LR (half the size) of the four photographs."""
    hr, lr = tmp_path / 'HR', tmp_path / 'LR'
    hr.mkdir()
    lr.mkdir()
    for name, photo in photos.items():
        height, width = photo.shape[:2]
        _write_image(hr / f'{name}.png', photo)
        small = cv2.resize(photo, (width // SCALE, height // SCALE), interpolation=cv2.INTER_AREA)
        _write_image(lr / f'{name}.png', small)
    return hr, lr


@pytest.fixture
def lmdbs(tmp_path, folders):
    return tuple(_as_lmdb(folder, tmp_path / f'{folder.name}.lmdb') for folder in folders)


@pytest.fixture
def log_lines():
    """What BasicSR's logger says; it does not propagate, so caplog would not see it."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append((record.levelname, record.getMessage()))
    logger = logging.getLogger('basicsr')
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
