"""What a path to a model leads to."""

import os

import pytest

from dynq_basicsr.atomic import temporary_beside
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.locate import checkpoint_of, is_checkpoint


@pytest.fixture
def folder(tmp_path):
    """``folder(name, ...)``: one with empty files."""

    def make(*names):
        path = tmp_path / 'model'
        path.mkdir()
        for name in names:
            (path / name).touch()
        return path

    return make


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['manifest.json'], False),
        (['manifest.json', 'quantized.pth'], False),
        (['quantized.pth'], True),
        ([], False),
        (['other.pth'], False),
    ],
)
def test_folders(names, expected, folder):
    assert is_checkpoint(path := folder(*names)) == expected
    if 'quantized.pth' in names:
        assert checkpoint_of(path) == path / 'quantized.pth'
    else:
        with pytest.raises(DynqError, match='holds no quantized.pth; name the checkpoint'):
            checkpoint_of(path)


def test_files_and_what_is_not_there(folder):
    file = folder('any.thing') / 'any.thing'
    assert is_checkpoint(file) and checkpoint_of(file) == file
    assert is_checkpoint(file.with_name('absent.PTH')) and not is_checkpoint(file.with_name('absent'))


def test_what_a_killed_command_left_is_put_back(folder):
    path = folder('quantized.pth')
    beside = temporary_beside(path).with_suffix('.old')
    path.rename(beside.with_name(beside.name.replace(f'.{os.getpid()}-', '.4194304-')))
    assert is_checkpoint(path) and path.is_dir()
