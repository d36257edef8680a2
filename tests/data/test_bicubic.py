"""``dynq data bicubic``: published LR files pixel for pixel, a plain reference, BasicSR's LMDB layout."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from dynq_basicsr import cli
from dynq_basicsr.data import bicubic


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two noise images whose sides are no multiples of the scale, one of them grey."""
    folder, random = tmp_path / 'photographs', np.random.default_rng(0)
    folder.mkdir()
    cv2.imwrite(str(folder / 'colour.png'), random.integers(0, 256, (67, 90, 3), np.uint8))
    cv2.imwrite(str(folder / 'grey.png'), random.integers(0, 256, (41, 43), np.uint8))
    return folder


def plain_line(line: list[int], scale: int) -> list[int]:
    """MATLAB's documented arithmetic for one line, written as loops."""

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    mirrored, result = line + line[::-1], []
    for k in range(1, len(line) // scale + 1):
        centre = k * scale + 0.5 * (1 - scale)
        taps = range(math.floor(centre - 2 * scale), math.ceil(centre + 2 * scale) + 1)
        weights = [kernel((centre - tap) / scale) for tap in taps]
        value = sum(w * mirrored[(tap - 1) % len(mirrored)] for w, tap in zip(weights, taps, strict=True))
        result.append(min(255, max(0, math.floor(value / sum(weights) + 0.5))))
    return result


@pytest.mark.parametrize('scale', [2, 3, 4])
@pytest.mark.parametrize('length', [1, 2, 9])
def test_matches_plain_reference(scale: int, length: int) -> None:
    image = np.random.default_rng(scale).integers(0, 256, (length * scale, 2 * scale), np.uint8)
    columns = np.array([plain_line(column.tolist(), scale) for column in image.T]).T
    expected = np.array([plain_line(row.tolist(), scale) for row in columns])
    np.testing.assert_array_equal(bicubic.imresize_uint8(image, scale), expected)


@pytest.mark.parametrize('scale', [2, 3, 4])
def test_constant_and_transposed_channels(scale: int) -> None:
    imresize = bicubic.imresize_uint8
    for level in (0, 1, 127, 255):
        flat = np.full((6 * scale, 4 * scale, 3), level, np.uint8)
        assert (imresize(flat, scale) == level).all()
    image = np.random.default_rng(1).integers(0, 256, (8 * scale, 8 * scale, 3), np.uint8)
    stacked = np.stack([imresize(image[..., c], scale) for c in range(3)], axis=2)
    np.testing.assert_array_equal(imresize(image, scale), stacked)


@pytest.mark.parametrize(('name', 'hr', 'scale'), [('Set5', 'HR', 4), ('Set5', 'HR', 2), ('Set14', 'HR', 4),
                                                   ('Set14', 'HR_x2', 2)])
def test_every_pixel_of_the_published_files(shared_data: Path, name: str, hr: str, scale: int) -> None:
    script, benchmarks = bicubic, shared_data / 'benchmarks'
    paths = script.list_images([benchmarks / name / hr])
    assert len(paths) == int(name[3:])
    for path in paths:
        published = cv2.imread(str(benchmarks / name / 'LR_bicubic' / f'X{scale}' / f'{path.stem}x{scale}.png'), -1)
        ours = script.read_pair(path, scale)[1]
        assert ours.shape == published.shape and (ours == published).all(), path.name


def test_folders(photographs: Path, tmp_path: Path) -> None:
    script, out = bicubic, tmp_path / 'out'
    assert cli.main(['data', 'bicubic', '--hr', str(photographs), '--out', str(out), '--scale', '4']) == 0
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob('*.png')) == [
        'HR/colour.png', 'HR/grey.png', 'LR/colourx4.png', 'LR/greyx4.png']
    hr, lr = cv2.imread(str(out / 'HR/colour.png'), -1), cv2.imread(str(out / 'LR/colourx4.png'), -1)
    np.testing.assert_array_equal(hr, cv2.imread(str(photographs / 'colour.png'), -1)[:64, :88])
    np.testing.assert_array_equal(lr, script.imresize_uint8(hr, 4))


def test_lmdb_tiles_are_the_pixels_of_the_whole_image(photographs: Path, tmp_path: Path) -> None:
    lmdb = pytest.importorskip('lmdb')
    out = tmp_path / 'out'
    assert bicubic.prepare([photographs], out, 4, lmdb=True, tile=32) == 2 * 3 + 2 * 2
    assert sorted(p.name for p in out.iterdir()) == ['HR.lmdb', 'LR.lmdb']
    meta = (out / 'HR.lmdb' / 'meta_info.txt').read_text().splitlines()
    assert meta[0] == 'colour_r0_c0.png (32,32,3) 1' and meta[-1] == 'grey_r1_c1.png (32,32,1) 1'
    pair = bicubic.read_pair(photographs / 'colour.png', 4)
    for name, image, side in zip(('HR', 'LR'), pair, (32, 8), strict=True):
        with lmdb.open(str(out / f'{name}.lmdb'), readonly=True, lock=False) as opened, opened.begin() as transaction:
            found = {key: cv2.imdecode(np.frombuffer(transaction.get(key), np.uint8), -1)
                     for key in (b'colour_r1_c1', b'colour_r1_c2')}  # fmt: skip
        np.testing.assert_array_equal(found[b'colour_r1_c1'], image[side:2 * side, side:2 * side])
        np.testing.assert_array_equal(found[b'colour_r1_c2'], image[side:2 * side, -side:])  # moved back to the border


@pytest.mark.parametrize('height, width, size, scale', [(320, 480, 320, 4), (64, 88, 32, 4), (9, 12, 9, 3)])
def test_tiles_cover_every_pixel(height: int, width: int, size: int, scale: int) -> None:
    hr = np.arange(height * width).reshape(height, width)
    lr = hr[::scale, ::scale]
    seen_hr, seen_lr = set(), set()
    for _, tile, small in bicubic.tiles(hr, lr, size, scale):
        assert tile.shape == (size, size)
        np.testing.assert_array_equal(tile[::scale, ::scale], small)
        seen_hr.update(tile.ravel())
        seen_lr.update(small.ravel())
    assert len(seen_hr) == hr.size and len(seen_lr) == lr.size


@pytest.mark.parametrize('options', [[], ['--lmdb']])
def test_scale_3_needs_no_tile(tmp_path: Path, capsys, options) -> None:
    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((162, 321, 3), np.uint8))
    words = ['data', 'bicubic', '--hr', str(tmp_path), '--scale', '3', *options, '--out']
    assert cli.main([*words, str(tmp_path / 'out')]) == 0
    assert ('6 pairs' if options == ['--lmdb'] else '1 pairs') in capsys.readouterr().out
    assert cli.main([*words, str(tmp_path / 'other'), '--lmdb', '--tile', '160']) == 2
    assert '--tile 160 is not a positive multiple of --scale 3; give --tile 159.' in capsys.readouterr().err
    assert cli.main([*words, str(tmp_path / 'other'), '--tile', '159']) == (2 if not options else 0)
    assert ('--tile 159: only LMDBs are cut into tiles' in capsys.readouterr().err) is (not options)


@pytest.mark.parametrize('case', ['absent', 'empty', 'corrupt', 'alpha', 'deep', 'small', 'again', 'tile', 'twins'])
def test_bad_input_is_one_line_and_leaves_nothing(photographs: Path, tmp_path: Path, capsys, case) -> None:
    out, extra, named = tmp_path / 'out', [], 'bad.png'
    bad = photographs / 'bad.png'
    if case == 'absent':
        photographs, named = tmp_path / 'nowhere', 'nowhere'
    elif case == 'empty':
        photographs, named = tmp_path / 'void', 'void'
        photographs.mkdir()
    elif case == 'corrupt':
        bad.write_bytes(b'no image')
    elif case == 'alpha':
        cv2.imwrite(str(bad), np.zeros((40, 40, 4), np.uint8))
    elif case == 'deep':
        cv2.imwrite(str(bad), np.zeros((40, 40, 3), np.uint16))
    elif case == 'small':
        cv2.imwrite(str(bad), np.zeros((3, 40, 3), np.uint8))
    elif case == 'again':
        (out / 'LR').mkdir(parents=True)
        named = 'already exists'
    elif case == 'tile':
        extra, named = ['--lmdb', '--tile', '64'], 'grey.png'
    elif case == 'twins':
        cv2.imwrite(str(photographs / 'grey.bmp'), np.zeros((40, 40), np.uint8))
        named = 'grey.bmp'
    code = cli.main(['data', 'bicubic', '--hr', str(photographs), '--out', str(out), *extra])
    message = capsys.readouterr().err
    assert code == 2 and named in message and len(message.splitlines()) == 1
    assert not [p for p in out.rglob('*') if p.name != 'LR']
