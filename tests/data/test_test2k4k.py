"""``dynq data test2k4k``: which image becomes which pair, what an interrupted run leaves, what is refused."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dynq_basicsr import cli
from dynq_basicsr.data import bicubic, test2k4k


@pytest.fixture
def script(monkeypatch):
    """The script, with two small images a benchmark."""
    monkeypatch.setattr(test2k4k, 'SETS', {'Test2K': (range(1201, 1203), 4), 'Test4K': (range(1301, 1303), 2)})
    monkeypatch.setattr(test2k4k, 'LEAST', 16)
    return test2k4k


@pytest.fixture
def div8k(tmp_path):
    """Noise under the numbers that are used, and others; sides that are no multiples of anything."""
    folder, random = tmp_path / 'DIV8K', np.random.default_rng(0)
    folder.mkdir()
    for number in (1200, 1201, 1202, 1301, 1302, 1303):
        cv2.imwrite(str(folder / f'{number}.png'), random.integers(0, 256, (93, 119, 3), np.uint8))
    return folder


def run(script, div8k, tmp_path, *more) -> int:
    return cli.main(['data', 'test2k4k', '--div8k', str(div8k), '--out', str(tmp_path / 'out'), *more])


def test_the_sets_are_those_of_the_paper():
    sets = test2k4k.SETS
    assert {name: (numbers[0], numbers[-1], len(numbers), factor) for name, (numbers, factor) in sets.items()} == {
        'Test2K': (1201, 1300, 100, 4), 'Test4K': (1301, 1400, 100, 2)}  # fmt: skip


def test_pairs_lie_where_benchmarks_lie(script, div8k, tmp_path, capsys):
    assert run(script, div8k, tmp_path) == 0
    files = sorted(path.relative_to(tmp_path / 'out').as_posix() for path in (tmp_path / 'out').rglob('*.*'))
    assert files == [
        'Test2K/HR/1201.png', 'Test2K/HR/1202.png', 'Test2K/LR_bicubic/X4/1201x4.png',
        'Test2K/LR_bicubic/X4/1202x4.png', 'Test4K/HR/1301.png', 'Test4K/HR/1302.png',
        'Test4K/LR_bicubic/X4/1301x4.png', 'Test4K/LR_bicubic/X4/1302x4.png']  # fmt: skip
    assert '2 pairs, 2 of them made now' in capsys.readouterr().out


@pytest.mark.parametrize('name, number, factor, size', [('Test2K', 1202, 4, (20, 28)), ('Test4K', 1301, 2, (44, 56))])
def test_hr_is_div8k_shrunk_and_lr_is_hr_shrunk(script, div8k, tmp_path, name, number, factor, size):
    imresize = bicubic.imresize_uint8
    run(script, div8k, tmp_path, '--sets', name)
    hr = cv2.imread(str(tmp_path / f'out/{name}/HR/{number}.png'))
    lr = cv2.imread(str(tmp_path / f'out/{name}/LR_bicubic/X4/{number}x4.png'))
    source = cv2.imread(str(div8k / f'{number}.png'))
    shrunk = imresize(source[: 93 - 93 % factor, : 119 - 119 % factor], factor)
    assert hr.shape[:2] == size
    np.testing.assert_array_equal(hr, shrunk[: size[0], : size[1]])
    np.testing.assert_array_equal(lr, imresize(hr, 4))
    assert [path.name for path in (tmp_path / 'out').iterdir()] == [name]


def test_an_interrupted_run_goes_on(script, div8k, tmp_path, capsys, monkeypatch):
    once = script.encode_png
    written = []

    def fail_at_the_fourth_file(image, level):
        written.append(image.shape)
        if len(written) == 4:
            raise KeyboardInterrupt
        return once(image, level)

    monkeypatch.setattr(script, 'encode_png', fail_at_the_fourth_file)
    assert run(script, div8k, tmp_path, '--sets', 'Test2K') == 130
    assert 'the same command goes on' in capsys.readouterr().err
    done = tmp_path / 'out/Test2K/HR/1201.png'
    before = done.stat().st_mtime_ns
    assert len([path for path in (tmp_path / 'out').rglob('*') if path.is_file()]) == 3
    assert run(script, div8k, tmp_path, '--sets', 'Test2K') == 0
    assert '2 pairs, 1 of them made now' in capsys.readouterr().out and done.stat().st_mtime_ns == before


@pytest.mark.parametrize('case, named', [
    ('folder', 'nowhere is not a folder'),
    ('number', "lacks 1 of the images 1301 to 1302: '1302'"),
    ('small', '1301.png measures 31x40, less than 32 a side'),
    ('corrupt', '1301.png cannot be decoded'),
])  # fmt: skip
def test_what_cannot_work_is_one_sentence(script, div8k, tmp_path, capsys, case, named):
    if case == 'folder':
        div8k = tmp_path / 'nowhere'
    elif case == 'number':
        (div8k / '1302.png').unlink()
    elif case == 'small':
        cv2.imwrite(str(div8k / '1301.png'), np.zeros((40, 31, 3), np.uint8))
    else:
        (div8k / '1301.png').write_bytes(b'no image')
    assert run(script, div8k, tmp_path, '--sets', 'Test4K') == 2
    error = capsys.readouterr().err
    assert named in error and error.count('\n') == 1
    assert not [path for path in tmp_path.glob('out/**/*') if path.is_file()]
