"""Crops: which one is chosen, what the picture holds, which files belong together."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dynq_basicsr import cli
from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.crops import (
    HEADER,
    MARGIN,
    crop_folders,
    cut,
    largest_texture,
    match_results,
    save_crops,
)


@pytest.fixture
def truth() -> np.ndarray:
    """A grey plane with one rough square of 40 pixels at (left 100, top 60)."""
    image = np.full((160, 240, 3), 128, np.uint8)
    image[60:100, 100:140] = np.random.RandomState(0).randint(0, 256, (40, 40, 3))
    return image


def test_the_roughest_square_is_found(truth):
    assert largest_texture(truth, 40) == pytest.approx((100, 60, 40, 40), abs=1)
    assert largest_texture(truth, 500) == (0, 0, 240, 160)


def test_every_pixel_of_the_crops_is_shown(tmp_path, truth):
    dark, bright = truth // 2, 255 - truth // 2
    box = (90, 50, 48, 48)
    assert save_crops(truth, {'float': dark, 'quantized': bright}, tmp_path / 'new' / 'crops.png', box) == box
    picture = cv2.imread(str(tmp_path / 'new' / 'crops.png'))
    side, overview = 7 * 48, round(240 * 7 * 48 / 160)
    assert picture.shape == (HEADER + side + MARGIN, MARGIN + overview + 3 * side + 2 * MARGIN // 2 + 2 * MARGIN, 3)
    left = 2 * MARGIN + overview
    for image in (dark, bright, truth):
        panel = picture[HEADER : HEADER + side, left : left + side]
        assert (panel == cut(image, box).repeat(7, axis=0).repeat(7, axis=1)).all()
        left += side + MARGIN // 2


def test_captions_tell_the_psnr(tmp_path, truth, monkeypatch):
    from dynq_basicsr.report.sheet import Sheet

    lines = []
    monkeypatch.setattr(Sheet, 'title', lambda self, corner, first, second: lines.append((first, second)))
    result = truth.copy()
    result[70:80, 110:120] ^= 8
    save_crops(truth, {'float': result}, tmp_path / 'crops.png', (100, 60, 40, 40), border=0)
    weights = np.array([24.966, 128.553, 65.481]) / 255  # BT.601 luma of B, G, R

    def psnr(a: np.ndarray, b: np.ndarray) -> float:
        error = ((a.astype(float) - b) @ weights) ** 2
        return 10 * np.log10(255**2 / error.mean())

    shown = dict(lines)['float'].replace(' dB', '').split(', image ')
    expected = psnr(result[60:100, 100:140], truth[60:100, 100:140]), psnr(result, truth)
    assert [float(number) for number in shown] == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize('box', [(-1, 0, 20, 20), (230, 0, 20, 20), (0, 150, 20, 20), (0, 0, 4, 20)])
def test_a_box_outside_is_refused(tmp_path, truth, box):
    with pytest.raises(DynqError, match='inside 240x160'):
        save_crops(truth, {'float': truth}, tmp_path / 'crops.png', box)
    assert not list(tmp_path.iterdir())


def test_sizes_must_agree(tmp_path, truth):
    with pytest.raises(DynqError, match='float: the result measures 236x160, the ground truth 240x160'):
        save_crops(truth, {'float': truth[:, 4:]}, tmp_path / 'crops.png')


@pytest.fixture
def folders(tmp_path, truth):
    files = {
        'gt': ['a.png', 'a_b.png', 'c.png'],
        'one': ['ax4_run.png', 'a_bx4_run.png', 'a_bx4_run_bits.png'],
        'two': ['a_other.png', 'c_other.png', 'a_b.png'],
    }
    for folder, names in files.items():
        (tmp_path / folder).mkdir()
        for name in names:
            cv2.imwrite(str(tmp_path / folder / name), truth)
    return tmp_path


def test_results_are_matched_by_name(folders):
    stems = ['a', 'a_b', 'c']
    found = match_results(stems, folders / 'one')
    assert {stem: path.name for stem, path in found.items()} == {'a': 'ax4_run.png', 'a_b': 'a_bx4_run.png'}
    assert set(match_results(stems, folders / 'two')) == {'a', 'a_b', 'c'}


def test_two_results_of_one_image_are_refused(folders, truth):
    cv2.imwrite(str(folders / 'one' / 'ax4_again.png'), truth)
    with pytest.raises(DynqError, match="both results of 'a'"):
        match_results(['a', 'a_b'], folders / 'one')


def test_images_that_all_runs_have(folders):
    runs = {'float': folders / 'one', 'quantized': folders / 'two'}
    written = crop_folders(folders / 'gt', runs, folders / 'out', size=32)
    assert [path.name for path in written] == ['a_crops.png', 'a_b_crops.png']
    assert sorted((folders / 'out').iterdir()) == sorted(written)


def test_command(folders, capsys):
    results = [f'float={folders / "one"}', f'4 bits={folders / "two"}']
    arguments = ['--gt', str(folders / 'gt'), '--out', str(folders / 'out'), '--results', *results]
    assert cli.main(['report', 'crops', *arguments, '--box', '100', '60', '40', '40']) == 0
    assert capsys.readouterr().out.endswith('2 pictures\n')


@pytest.mark.parametrize(
    ('results', 'message'),
    [('{}/one', 'write LABEL=FOLDER'), ('float={}/three', 'three: no such folder'), ('float={}', 'no PNG image here')],
)
def test_command_names_the_mistake(folders, capsys, results, message):
    arguments = ['--gt', str(folders / 'gt'), '--out', str(folders / 'out'), '--results', results.format(folders)]
    assert cli.main(['report', 'crops', *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and not (folders / 'out').exists()
