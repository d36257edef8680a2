"""What the HTML report tells of a picture: numbers that agree with the pixels."""

import math

import cv2
import numpy as np
import pytest
import torch

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.report import html_compare
from dynq_basicsr.report.html_compare import (
    BICUBIC,
    FLOAT,
    QUANTIZED,
    TRUTH,
    compare,
    largest_differences,
    psnr,
    read_shown,
)
from dynq_basicsr.workflow.quantized import Quantized


@pytest.fixture
def quantized():
    torch.manual_seed(0)
    backbone = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 4, 'num_block': 2, 'upscale': 2}
    net = QuantizedSR(backbone, {'weight': {'bits': 4}, 'activation': {'bits': 5}}, {'type': 'Fixed'})
    net.calibrated = True
    return Quantized(net, TilingOptions(16))


def write(path, pixels):
    cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    return path


def test_psnr():
    first = np.zeros((2, 2, 3), np.uint8)
    second = first.copy()
    second[0, 0, 0] = 12  # a mean square of 12
    assert psnr(first, second) == psnr(second, first) == pytest.approx(10 * math.log10(255**2 / 12))
    assert psnr(first, first) == math.inf


def test_the_largest_differences_do_not_overlap():
    first, second = (np.zeros((40, 60, 3), np.uint8) for _ in range(2))
    second[3:5, 3:5], second[30:34, 50:54], second[20, 20] = 90, 200, 10
    boxes = largest_differences(first, second, 16, 3)
    for (top, left, bottom, right), place in zip(boxes, [(30, 50), (3, 3), (20, 20)], strict=True):
        assert top <= place[0] < bottom and left <= place[1] < right
        assert (bottom - top, right - left) == (16, 16) and top >= 0 and left >= 0 and bottom <= 40 and right <= 60
    covers = np.zeros((40, 60))
    for top, left, bottom, right in boxes:
        covers[top:bottom, left:right] += 1
    assert covers.max() == 1
    assert largest_differences(first, second, 100, 3) == [(0, 0, 40, 60)]
    assert len(largest_differences(first, first, 20, 99)) == 6


def test_a_picture_each_way(quantized, tmp_path):
    random = np.random.RandomState(0)
    truth = random.randint(0, 256, (65, 80, 3), np.uint8)  # a row more than twice
    lr = write(tmp_path / 'lr.png', random.randint(0, 256, (32, 40, 3), np.uint8))
    shown = read_shown(lr, 2)
    picture = compare(shown, write(tmp_path / 'hr.png', truth), quantized)
    assert list(picture.results) == [BICUBIC, FLOAT, QUANTIZED, TRUTH]
    assert {image.shape for image in picture.results.values()} == {(64, 80, 3)}
    assert (picture.results[TRUTH] == truth[:64]).all()
    assert (picture.results[QUANTIZED] == quantized.upscale(shown.pixels)).all()
    assert (picture.results[FLOAT] == quantized.reference(shown.pixels)).all()
    assert picture.usage.patch_bits.equal(quantized.bits(shown.pixels).patch_bits)
    swapped = compare(shown, None, quantized, quantized.reference)
    assert list(swapped.results) == [BICUBIC, FLOAT, QUANTIZED] and swapped.psnr(QUANTIZED, FLOAT) == math.inf
    assert picture.psnr(QUANTIZED, FLOAT) == psnr(picture.results[QUANTIZED], picture.results[FLOAT])
    assert picture.psnr(FLOAT, FLOAT) is None
    assert picture.psnr(BICUBIC, TRUTH) > 0 and all(value > 0 for value in picture.seconds.values())
    errors = picture.patch_errors()
    assert len(errors) == len(picture.usage.boxes) == 4  # the last patches reach the border
    mean = np.average(errors**2, weights=picture.usage.areas)
    assert 10 * math.log10(255**2 / mean) == pytest.approx(picture.psnr(QUANTIZED, FLOAT))
    assert picture.bitops(FLOAT) > picture.bitops(QUANTIZED) > 0
    assert picture.bitops(QUANTIZED) == pytest.approx(sum(picture.usage.bitops(960 * 540)) / 1e12)


def test_of_a_large_picture_the_middle(quantized, tmp_path, monkeypatch):
    monkeypatch.setattr(html_compare, 'SIDE', 32)
    random = np.random.RandomState(0)
    lr, hr = random.randint(0, 256, (20, 31), np.uint8), random.randint(0, 256, (40, 62, 3), np.uint8)
    shown = read_shown(write(tmp_path / 'lr.png', lr), 2)
    assert shown.whole == (20, 31) and (shown.pixels == lr[2:18, 7:23, None]).all()
    picture = compare(shown, write(tmp_path / 'hr.png', hr), quantized)
    assert (picture.results[TRUTH] == hr[4:36, 14:46]).all() and picture.results[FLOAT].shape == (32, 32, 3)


def test_16_bits_are_shown_as_8(tmp_path):
    deep = np.array([[0, 256, 65535]], np.uint16).repeat(3, axis=0)
    assert (read_shown(write(tmp_path / 'deep.png', deep), 2).pixels[0, :, 1] == [0, 1, 255]).all()


def test_foreign_ground_truth_is_refused(quantized, tmp_path):
    lr = write(tmp_path / 'lr.png', np.zeros((16, 16, 3), np.uint8))
    hr = write(tmp_path / 'hr.png', np.zeros((32, 34, 3), np.uint8))
    with pytest.raises(DynqError, match='hr.png: measures 34x32, but the result 32x32'):
        compare(read_shown(lr, 2), hr, quantized)
