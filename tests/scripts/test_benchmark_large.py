"""scripts/benchmark_large.py: what a mosaic shows, what is measured of one image, what is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dynq_basicsr.data.bicubic import imresize_uint8

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(import_script, monkeypatch):
    """The script, with the project as the current folder."""
    monkeypatch.chdir(ROOT)
    return import_script('benchmark_large')


@pytest.fixture
def photographs(tmp_path):
    """A colour and a grey image, a little larger than a tile."""
    random = np.random.default_rng(0)
    for name, shape in (('a', (544, 520, 3)), ('b', (541, 512))):
        cv2.imwrite(str(tmp_path / f'{name}.png'), random.integers(0, 256, shape, np.uint8))
    return [tmp_path / 'a.png', tmp_path / 'b.png']


def test_a_mosaic_is_made_of_the_middles_in_order(script, photographs):
    first, second = (cv2.imread(str(path)) for path in photographs)
    mosaic = script.make_mosaic(photographs, 1100, 600)
    assert mosaic.shape == (600, 1100, 3)
    np.testing.assert_array_equal(mosaic[:540, :512], first[2:542, 4:516])
    np.testing.assert_array_equal(mosaic[:540, 512:1024], second[:540])
    np.testing.assert_array_equal(mosaic[:540, 1024:], first[2:542, 4:80])
    np.testing.assert_array_equal(mosaic[540:, :512], second[:60])


def test_a_photograph_that_is_too_small_is_named(script, photographs, capsys):
    cv2.imwrite(str(photographs[0]), np.zeros((500, 600, 3), np.uint8))
    assert script.main(['--hr', str(photographs[0].parent), '--sizes', '512x540']) == 2
    assert 'a.png is smaller than 512x540' in capsys.readouterr().err


@pytest.mark.parametrize('size', ['2048', '2048x1080x3', '2050x1080', '2048x380', 'x'])
def test_sizes_that_are_none(script, photographs, capsys, size):
    assert script.main(['--hr', str(photographs[0].parent), '--sizes', size]) == 2
    error = capsys.readouterr().err
    assert f'--sizes {size}: write WIDTHxHEIGHT' in error and error.count('\n') == 1


@pytest.mark.parametrize('name, fab', [('float', 32), ('adabm_w4a4', 4)])
def test_one_image_is_measured(script, photographs, tmp_path, name, fab):
    mosaic = script.make_mosaic(photographs, 384, 400)
    hr, lr = tmp_path / 'hr.png', tmp_path / 'lr.png'
    cv2.imwrite(str(hr), mosaic)
    cv2.imwrite(str(lr), imresize_uint8(mosaic, 4))
    val = script.PATCHES | {'patch_batch': 2}
    figures = script.measure(ROOT / f'options/quickstart_{name}.yml', None, hr, lr, val, 1)
    assert figures['images'] == 4 * 3 * (384 * 400 + 96 * 100)
    assert figures['fab'] == pytest.approx(fab, abs=1) and 5 < figures['psnr'] < 20  # noise
    assert figures['ssim_takes'] > figures['psnr_takes'] > 8 * 384 * 400 * 0.9 and figures['seconds'] > 0
    row = script.table_row('net', 384, 400, figures)
    assert row.startswith('| net | 384x400 | 0.15 |') and row.count('|') == 14
