"""scripts/link_datasets.sh: a directory of links, safe to repeat, refusals that change nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts' / 'link_datasets.sh'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with two children (one with a space in its name) and a file that is not linked."""
    for child in ('benchmarks', 'my train'):
        (tmp_path / 'data' / child).mkdir(parents=True)
    (tmp_path / 'data' / 'README.md').write_text('read me')
    return tmp_path / 'data'


def link(target: Path, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, 'DYNQ_DATASETS': str(target)}
    return subprocess.run(['bash', str(SCRIPT), *map(str, arguments)], env=environment, capture_output=True, text=True)


def test_links_every_child_and_repeats_without_change(tmp_path: Path, folder: Path) -> None:
    target = tmp_path / 'datasets'
    assert link(target, folder).returncode == 0
    assert not target.is_symlink() and sorted(p.name for p in target.iterdir()) == ['benchmarks', 'my train']
    assert all(p.is_symlink() and p.resolve() == (folder / p.name).resolve() for p in target.iterdir())
    (target / 'prepared').mkdir()
    before = {p.name: p.lstat().st_ino for p in target.iterdir()}
    assert link(target, folder).returncode == 0
    assert {p.name: p.lstat().st_ino for p in target.iterdir()} == before
    assert sorted(p.name for p in folder.iterdir()) == ['README.md', 'benchmarks', 'my train']


def test_another_folder_moves_the_links(tmp_path: Path, folder: Path) -> None:
    target, other = tmp_path / 'datasets', tmp_path / 'other'
    (other / 'benchmarks').mkdir(parents=True)
    assert link(target, folder).returncode == link(target, other).returncode == 0
    assert (target / 'benchmarks').resolve() == (other / 'benchmarks').resolve()
    assert not list((folder / 'benchmarks').iterdir()), 'a link was made inside the old folder'


def test_refusals_are_one_sentence_and_change_nothing(tmp_path: Path, folder: Path) -> None:
    target = tmp_path / 'datasets'
    (tmp_path / 'empty').mkdir()
    (target / 'my train').mkdir(parents=True)
    for arguments, named in (
        ([tmp_path / 'absent'], 'absent'),
        ([tmp_path / 'empty'], 'empty'),
        ([folder, folder], 'one folder'),
        ([target], 'itself'),
        ([folder], 'my train'),
    ):
        result = link(target, *arguments)
        assert result.returncode == 2 and named in result.stderr and len(result.stderr.splitlines()) == 1
    assert [p.name for p in target.iterdir()] == ['my train']


def test_a_link_in_the_place_of_datasets_is_refused(tmp_path: Path, folder: Path) -> None:
    target = tmp_path / 'datasets'
    target.symlink_to(tmp_path)
    result = link(target, folder)
    assert result.returncode == 2 and 'itself a link' in result.stderr
