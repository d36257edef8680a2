"""Listing of folders and LMDBs."""

import pytest

from dynq_basicsr.data.sources import list_folder, lmdb_keys, read_lmdb, some, strays
from dynq_basicsr.errors import DynqError


def test_folder_is_sorted_and_told_by_suffix(folders):
    _, lr = folders
    (lr / 'UPPER.PNG').write_bytes((lr / 'coffee.png').read_bytes())
    (lr / 'Thumbs.db').write_bytes(b'x')
    (lr / '.hidden').write_bytes(b'x')
    (lr / 'sub').mkdir()
    images, others = list_folder(str(lr), 'o')
    assert images == ['UPPER.PNG', 'astronaut.png', 'chelsea.png', 'coffee.png', 'rocket.png']
    assert others == ['Thumbs.db']


def test_a_rare_format_is_no_stray(folders):
    _, lr = folders
    (lr / 'noext').write_bytes((lr / 'coffee.png').read_bytes())
    (lr / 'notes.txt').write_text('x')
    assert strays(str(lr), ['noext', 'notes.txt']) == ['notes.txt']


@pytest.mark.parametrize('value', [None, '', 3])
def test_unset_root(value):
    with pytest.raises(DynqError, match='datasets.train.dataroot_lq is not set'):
        list_folder(value, 'datasets.train.dataroot_lq')


def test_keys_keep_dots_and_spaces(lmdbs):
    hr, _ = lmdbs
    (hr / 'meta_info.txt').write_text('0001.v2.png (8,8,3) 1\nmy cat.png (8,8,3) 1\n\n')
    assert lmdb_keys(str(hr), 'o') == ['0001.v2', 'my cat']


def test_database_is_closed_after_reading(lmdbs):
    for _ in range(2):  # lmdb refuses to open a database twice in one process
        assert next(read_lmdb(str(lmdbs[0]), ['coffee'])).startswith(b'\x89PNG')
        assert len(list(read_lmdb(str(lmdbs[0]), ['coffee', 'rocket']))) == 2


def test_a_file_that_is_no_database(lmdbs):
    (lmdbs[0] / 'data.mdb').write_bytes(b'x' * 5000)
    with pytest.raises(DynqError, match='HR.lmdb: the LMDB cannot be opened'):
        list(read_lmdb(str(lmdbs[0]), ['coffee']))


def test_long_lists_are_shortened():
    assert some('abcde') == "'a', 'b', 'c' and 2 more"
