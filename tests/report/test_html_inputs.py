"""What an HTML report is made of: where its checkpoint, pictures and ground truth are looked for."""

import os
from pathlib import Path

import pytest
import yaml

from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.html_inputs import choose_pictures, find_checkpoint, float_size, quantized_size


def touch(path: Path, size: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def write_options(file: Path, **options: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump({'network_g': {}, 'path': {}} | options))


def test_checkpoints(tmp_path):
    model = touch(tmp_path / 'model/quantized.pth')
    assert find_checkpoint(tmp_path / 'model') == find_checkpoint(model) == model
    with pytest.raises(DynqError, match='holds neither quantized.pth'):
        find_checkpoint(tmp_path)
    with pytest.raises(DynqError, match='absent: no such file'):
        find_checkpoint(tmp_path / 'absent')


def test_of_a_run_the_checkpoint_that_was_written_last(tmp_path):
    for age, name in enumerate(('net_g_latest', 'net_g_1000', 'net_g_500')):
        os.utime(touch(tmp_path / f'models/{name}.pth'), (10**9 - age, 10**9 - age))
    assert find_checkpoint(tmp_path).name == 'net_g_latest.pth'
    os.utime(tmp_path / 'models/net_g_1000.pth', (2 * 10**9, 2 * 10**9))
    assert find_checkpoint(tmp_path).name == 'net_g_1000.pth'


def test_pictures_that_are_named(tmp_path):
    for index in range(10):
        touch(tmp_path / f'lr/{index}x4.png')
        touch(tmp_path / f'hr/{index}.png')
    (tmp_path / 'hr/5.png').unlink()
    choice = choose_pictures(tmp_path, [tmp_path / 'lr'], tmp_path / 'hr', 4)
    assert [path.name for path, _ in choice.pairs] == ['0x4.png', '2x4.png', '5x4.png', '7x4.png']
    assert [truth and truth.name for _, truth in choice.pairs] == ['0.png', '2.png', None, '7.png']
    assert choice.words.endswith('Of 10, 4 are shown.')
    assert [truth for _, truth in choose_pictures(tmp_path, [tmp_path / 'lr'], None, 99).pairs] == 10 * [None]


def test_pictures_of_calibration(tmp_path):
    kept, lost = touch(tmp_path / 'ö.png'), tmp_path / 'lost.png'
    (tmp_path / 'pictures.txt').write_text(f'{lost}\n{kept}\n', encoding='utf-8')
    choice = choose_pictures(tmp_path, [], None, 6)
    assert choice.pairs == [(kept, None)] and 'was calibrated with' in choice.words
    kept.unlink()
    with pytest.raises(DynqError, match='none of its pictures is there'):
        choose_pictures(tmp_path, [], None, 6)


def test_pictures_of_a_run(tmp_path):
    lr, hr = touch(tmp_path / 'lr/ax2.png'), touch(tmp_path / 'hr/a.png')
    datasets = {'train': {'dataroot_lq': str(tmp_path)},
                'val': {'dataroot_lq': str(lr.parent), 'dataroot_gt': str(hr.parent)}}  # fmt: skip
    write_options(tmp_path / 'run/run.yml', datasets=datasets)
    choice = choose_pictures(tmp_path / 'run', [], None, 6)
    assert choice.pairs == [(lr, hr)] and 'data set for validation' in choice.words
    lr.rename(tmp_path / 'ax2.png')
    lr.parent.rmdir()
    with pytest.raises(DynqError, match='names no pictures that are there; name low-resolution pictures'):
        choose_pictures(tmp_path / 'run', [], None, 6)


@pytest.mark.parametrize('given, truth, told', [
    ('absent', None, 'absent: no such file or folder'), ('empty', None, 'empty: the folder holds no images'),
    ('lr', 'hr', '--gt .*hr: holds no a; name the folder'),
])  # fmt: skip
def test_what_does_not_fit(tmp_path, given, truth, told):
    touch(tmp_path / 'lr/a.png')
    touch(tmp_path / 'hr/b.png')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(DynqError, match=told):
        choose_pictures(tmp_path, [tmp_path / given], truth and tmp_path / truth, 6)


def test_sizes(tmp_path):
    checkpoint = touch(tmp_path / 'model/quantized.pth', 30)
    assert float_size(tmp_path / 'model') is None and float_size(checkpoint) is None
    assert quantized_size(tmp_path / 'model') == quantized_size(checkpoint) == 30
    for name, size in (('network.onnx', 7), ('controller.onnx', 5), ('manifest.json', 2)):
        touch(tmp_path / 'model' / name, size)
    path = {'pretrain_network_g': str(touch(tmp_path / 'float.pth', 40))}
    write_options(tmp_path / 'model/options.yml', path=path)
    assert (float_size(tmp_path / 'model'), quantized_size(tmp_path / 'model')) == (40, 14)
