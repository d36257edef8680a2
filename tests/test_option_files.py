"""Option files that ship: found by name, listed, copied, and those of the user first."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dynq_basicsr import cli, option_files
from dynq_basicsr.errors import DynqError


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """A package as a wheel installs it, with one option file."""
    package = tmp_path / 'site' / 'dynq_basicsr'
    (package / '_options').mkdir(parents=True)
    (package / 'weights').mkdir()
    (package / 'weights' / 'a.safetensors').write_bytes(b'')
    (package / '_options' / 'one.yml').write_text('# One.\npath: {pretrain: dynq_basicsr/weights/a.safetensors}\n')
    monkeypatch.setattr(option_files, 'PACKAGE', package)
    return package


@pytest.mark.parametrize('name', ['quickstart_float', 'quickstart_float.yml', 'options/quickstart_float.yml'])
def test_names(name, repository):
    assert option_files.find(name) == repository / 'options' / 'quickstart_float.yml'


def test_a_wrong_name_is_told_near_ones():
    with pytest.raises(DynqError, match="quickstart_flaot: no option file ships .* Did you mean 'quickstart_float'"):
        option_files.find('quickstart_flaot')


def test_in_a_wheel_they_lie_in_the_package(wheel):
    assert option_files.names() == ['one'] and option_files.find('one').parent == wheel / '_options'


def test_the_users_own_files_come_first(wheel, tmp_path):
    own = tmp_path / 'work'
    (own / 'options').mkdir(parents=True)
    assert option_files.locate(own, 'options/one.yml') == wheel / '_options' / 'one.yml'
    assert option_files.locate(own, 'dynq_basicsr/weights/a.safetensors') == wheel / 'weights' / 'a.safetensors'
    assert option_files.locate(own, 'options/absent.yml') == own / 'options' / 'absent.yml'
    (own / 'options' / 'one.yml').write_text('')
    assert option_files.locate(own, 'options/one.yml') == own / 'options' / 'one.yml'


def test_list(capsys, repository):
    assert cli.main(['options', 'list', '--names']) == 0
    assert capsys.readouterr().out.split() == sorted(path.stem for path in (repository / 'options').glob('*.yml'))
    assert cli.main(['options', 'list']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line.split()) > 1 and '#' not in line for line in lines)  # each says what it is


def test_copy_names_what_is_on_this_machine_and_replaces_nothing(wheel, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(['options', 'copy', 'one']) == cli.main(['options', 'copy', 'one', 'new/folder']) == 0
    assert cli.main(['options', 'copy', 'one', 'mine.yml']) == 0
    for copy in ('one.yml', 'new/folder/one.yml', 'mine.yml'):
        assert Path(yaml.safe_load(Path(copy).read_text())['path']['pretrain']).is_file()
    assert capsys.readouterr().out.splitlines()[-1] == 'mine.yml'
    Path('mine.yml').write_text('own')
    assert cli.main(['options', 'copy', 'one', 'mine.yml']) == 2
    assert 'mine.yml exists already' in capsys.readouterr().err and Path('mine.yml').read_text() == 'own'
