"""What a bit map shows, pixel by pixel."""

from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from dynq_basicsr.report import layer_charts
from dynq_basicsr.report.bit_map import HEADER, LEGEND, MARGIN, cells, enlargement, save_bit_map, tint_patches
from dynq_basicsr.report.layer_charts import bit_colours

QUARTERS = [(0, 0, 40, 40), (0, 40, 40, 80), (40, 0, 80, 40), (40, 40, 80, 80)]


def photograph(height: int, width: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (height, width, 3), np.uint8)


def tint(pixel: np.ndarray, bits: float) -> np.ndarray:
    """The tint, written down anew: half of it colour, a quarter photograph, a quarter grey."""
    return pixel / 4 + pixel.mean() / 4 + bit_colours(np.array(bits))[::-1] * 255 / 2


def test_each_patch_has_the_colour_of_its_mean_bits(tmp_path, make_usage):
    lq = photograph(80, 80)
    usage = make_usage(80, 80, QUARTERS, {'body.0': [2, 4, 6, 8], 'body.1': [3, 5, 5, 8]})
    save_bit_map(lq, usage, tmp_path / 'new' / 'bits.png')
    picture = cv2.imread(str(tmp_path / 'new' / 'bits.png'))
    factor = enlargement(80, 80)
    assert factor == 10
    assert picture.shape[0] == HEADER + 800 + LEGEND
    assert picture.shape[1] == 3 * MARGIN + 800 + layer_charts.chart_size(2, (800, 800), 1.0)[0]
    for (top, left, _, _), bits in zip(QUARTERS, (2.5, 4.5, 5.5, 8), strict=True):
        for row, column in ((top + 6, left + 6), (top + 33, left + 7), (top + 5, left + 34)):
            expected = tint(lq[row, column].astype(float), bits)
            corner = HEADER + factor * row, MARGIN + factor * column
            block = picture[corner[0] : corner[0] + factor, corner[1] : corner[1] + factor]
            assert np.abs(block - expected).max() <= 1


def test_patches_are_outlined_and_labelled(tmp_path, make_usage):
    lq = np.full((80, 80, 3), 90, np.uint8)
    save_bit_map(lq, make_usage(80, 80, QUARTERS, {'body.0': [2, 4, 6, 8]}), tmp_path / 'bits.png')
    panel = cv2.imread(str(tmp_path / 'bits.png'))[HEADER : HEADER + 800, MARGIN : MARGIN + 800]
    flat = np.kron(tint_patches(lq, make_usage(80, 80, QUARTERS, {'body.0': [2, 4, 6, 8]})), np.ones((10, 10, 1)))
    drawn = np.abs(panel - flat).max(axis=2) > 2
    assert drawn[397:403].any(axis=0).mean() > 0.99 and drawn[:, 397:403].any(axis=1).mean() > 0.99
    for top, left, _, _ in QUARTERS:
        inside = drawn[10 * top + 20 : 10 * top + 380, 10 * left + 20 : 10 * left + 380]
        rows, columns = np.nonzero(inside)
        assert 150 < rows.min() and rows.max() < 210 and 120 < columns.min() and columns.max() < 240


def test_overlaps_are_split_in_the_middle():
    boxes = [(0, 0, 40, 40), (0, 32, 40, 76), (32, 0, 80, 40), (32, 32, 80, 76)]
    assert cells(boxes) == [(0, 0, 36, 36), (0, 36, 36, 76), (36, 0, 80, 36), (36, 36, 80, 76)]
    assert cells(QUARTERS) == QUARTERS
    assert cells([(0, 0, 7, 9)]) == [(0, 0, 7, 9)]


def test_overlapping_patches_cover_the_image_once(make_usage):
    boxes = [(0, 0, 20, 40), (0, 31, 20, 70)]
    lq = np.zeros((20, 70, 3), np.uint8)
    pixels = tint_patches(lq, make_usage(20, 70, boxes, {'body.0': [3, 7]}))
    colours = [np.rint(bit_colours(np.array(bits))[::-1] * 127.5) for bits in (3, 7)]
    assert (pixels[:, :35] == colours[0]).all() and (pixels[:, 35:] == colours[1]).all()


def test_float_network_shows_the_plain_image(tmp_path, make_usage):
    lq = photograph(30, 50)
    save_bit_map(lq, make_usage(30, 50, [(0, 0, 30, 50)], {}), tmp_path / 'bits.png')
    picture = cv2.imread(str(tmp_path / 'bits.png'))
    factor = enlargement(30, 50)
    panel = picture[HEADER : HEADER + 30 * factor, MARGIN : MARGIN + 50 * factor]
    assert (panel == lq.repeat(factor, axis=0).repeat(factor, axis=1)).all()
    assert (picture[:HEADER] < 128).any()  # the sentence


def test_hundreds_of_layers_stand_below_the_image_in_whole_pixels(tmp_path, make_usage):
    lq = photograph(80, 80)
    bits = {f'body.{i // 40}.{i % 40}.conv': [2 + i % 7] for i in range(400)}
    save_bit_map(lq, make_usage(80, 80, [(0, 0, 80, 80)], bits), tmp_path / 'bits.png')
    picture = cv2.imread(str(tmp_path / 'bits.png'))
    width, height = layer_charts.chart_size(400, (800, 800), 1.0)
    left, bottom = MARGIN + width - 2 * 400, HEADER + 800 + LEGEND + HEADER + height
    row = picture[bottom - 12, left : left + 800]  # every layer has at least 2 of 8 bits there
    expected = np.rint(255 * bit_colours(2 + np.arange(400) % 7)[:, ::-1]).repeat(2, axis=0)
    assert np.abs(row - expected).max() <= 1


@pytest.mark.parametrize('shape', [(1, 1), (700, 3000), (9, 500)])
def test_extreme_sizes(tmp_path, make_usage, shape):
    height, width = shape
    lq = photograph(height, width)
    boxes = [(0, 0, height, width)]
    save_bit_map(lq, make_usage(height, width, boxes, {'conv': [4]}), tmp_path / 'bits.png')
    picture = cv2.imread(str(tmp_path / 'bits.png'))
    factor = enlargement(height, width)
    assert picture.shape[0] > factor * height and picture.shape[1] > factor * width


def test_large_image_is_not_resampled(tmp_path, make_usage):
    lq = photograph(300, 2100)
    save_bit_map(lq, make_usage(300, 2100, [(0, 0, 300, 2100)], {'conv': [4]}), tmp_path / 'bits.png')
    margin, header = round(MARGIN * 1.5), round(HEADER * 1.5)
    panel = cv2.imread(str(tmp_path / 'bits.png'))[header : header + 300, margin : margin + 2100]
    expected = tint_patches(lq, make_usage(300, 2100, [(0, 0, 300, 2100)], {'conv': [4]}))
    assert (panel[10:100, 10:-10] == expected[10:100, 10:-10]).all()


def test_importing_costs_no_matplotlib():
    code = "import dynq_basicsr.report.bit_map, sys; sys.exit('matplotlib' in sys.modules)"
    environment = os.environ | {'DYNQ_BASICSR_AUTOLOAD': '0'}
    assert subprocess.run([sys.executable, '-c', code], env=environment).returncode == 0
