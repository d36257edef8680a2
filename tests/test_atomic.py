"""Files are whole or not there; what dead processes left goes, what living ones are at stays."""

import errno
import os
import subprocess
import sys
import time

import pytest

from dynq_basicsr import atomic
from dynq_basicsr.atomic import (
    NotWritten,
    is_alive,
    move,
    replacing,
    replacing_folder,
    sweep,
    sweep_below,
    temporary_beside,
    write_whole,
)


@pytest.fixture(scope='module')
def dead() -> int:
    """The number of a process that is gone."""
    child = subprocess.Popen([sys.executable, '-c', ''])
    child.wait()
    return child.pid


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def left(tmp_path):
    """``left(name, pid, kind='tmp', host=this machine's)``: what a process left of writing ``name``."""

    def make(name, pid, kind='tmp', host=None):
        path = temporary_beside(tmp_path / name)
        own = path.name.split('.')[-2]
        host = own.split('-')[1][:4] if host is None else host
        path = path.with_name(f'.{name}.{pid}-{host}0000.{kind}')
        path.write_bytes(b'half')
        return path

    return make


def test_a_file_is_replaced(tmp_path):
    target = tmp_path / 'a.txt'
    text = 'text\r\n名'
    for content, expected in ((b'bytes', b'bytes'), (text, text.encode()), (memoryview(b'view'), b'view')):
        write_whole(target, content)
        assert target.read_bytes() == expected and names(tmp_path) == ['a.txt']


def test_names_that_are_no_unicode(tmp_path):
    target = tmp_path / os.fsdecode(b'caf\xe9.txt')
    write_whole(target, f'{target.name}\n')
    assert target.read_bytes() == b'caf\\udce9.txt\n'


def test_long_names(tmp_path):
    target = tmp_path / ('é' * 125 + '.png')
    write_whole(target, b'x')
    assert target.read_bytes() == b'x'


def test_permissions_are_the_user_s_own(tmp_path):
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / 'a', b'')
    finally:
        os.umask(before)
    assert os.name == 'nt' or (tmp_path / 'a').stat().st_mode & 0o777 == 0o640


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    write_whole(tmp_path / 'a', b'old')
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / 'a') as file:
        file.write(b'new')
        raise ZeroDivisionError
    assert (tmp_path / 'a').read_bytes() == b'old' and names(tmp_path) == ['a']


def test_the_error_names_the_target_and_its_reason(tmp_path):
    with pytest.raises(NotWritten, match=r'absent.a\.txt: cannot be written \(No such file or directory\)') as caught:
        write_whole(tmp_path / 'absent' / 'a.txt', b'')
    assert caught.value.errno == errno.ENOENT


def test_folders_that_cannot_be_flushed_do_not_matter_and_broken_ones_do(tmp_path, monkeypatch):
    flush = os.fsync

    def fail(number):
        def fsync(descriptor):
            if os.path.isdir(f'/proc/self/fd/{descriptor}'):
                raise OSError(number, os.strerror(number))
            flush(descriptor)

        return fsync

    monkeypatch.setattr(os, 'fsync', fail(errno.EINVAL))
    write_whole(tmp_path / 'a', b'1')
    assert (tmp_path / 'a').read_bytes() == b'1'
    if os.path.isdir('/proc/self/fd'):
        monkeypatch.setattr(os, 'fsync', fail(errno.EIO))
        with pytest.raises(NotWritten, match='Input/output error'):
            write_whole(tmp_path / 'a', b'2')


def test_renaming_is_patient_where_others_look_at_the_file(tmp_path, monkeypatch):
    replace, calls = os.replace, []

    def busy(source, target):
        calls.append(source)
        if len(calls) < 3:
            raise PermissionError(errno.EACCES, 'used by another process')
        replace(source, target)

    monkeypatch.setattr(os, 'replace', busy)
    monkeypatch.setattr(atomic, '_PAUSES', (0, 0, 0))
    (tmp_path / 'a').touch()
    move(tmp_path / 'a', tmp_path / 'b')
    assert names(tmp_path) == ['b'] and len(calls) == 3


def test_a_folder_is_replaced_whole(tmp_path):
    for number in range(3):
        with replacing_folder(tmp_path / 'model') as folder:
            (folder / str(number)).touch()
        assert names(tmp_path) == ['model'] and names(tmp_path / 'model') == [str(number)]


@pytest.mark.parametrize('there', [True, False])
def test_a_link_is_followed(tmp_path, there):
    (tmp_path / 'disk').mkdir()
    if there:
        (tmp_path / 'disk/a').write_bytes(b'old')
        (tmp_path / 'disk/folder').mkdir()
    for name in ('a', 'folder'):
        (tmp_path / name).symlink_to(tmp_path / 'disk' / name)
    write_whole(tmp_path / 'a', b'new')
    with replacing_folder(tmp_path / 'folder') as folder:
        (folder / 'b').touch()
    assert (tmp_path / 'disk/a').read_bytes() == b'new' and names(tmp_path / 'disk/folder') == ['b']
    assert (tmp_path / 'a').is_symlink() and (tmp_path / 'folder').is_symlink()
    assert names(tmp_path) == ['a', 'disk', 'folder'] and names(tmp_path / 'disk') == ['a', 'folder']


# -- what is left behind ----------------------------------------------------------------------------------------------


def test_processes():
    child = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    assert is_alive(os.getpid()) and is_alive(child.pid)
    child.communicate(b'\n')
    assert not is_alive(child.pid) and not is_alive(2**31 - 2) and not is_alive(9_999_999_999)


def test_sweeping_spares_the_living_and_what_is_not_ours(tmp_path, left, dead):
    living = left('net.pth', os.getpid())
    foreign = ('.net.pth.12.tmp', f'.a.{dead}-zzzz0000.tmp', f'a.{dead}-00000000.tmp', '.x')
    others = [tmp_path / name for name in foreign]
    for path in others:
        path.touch()
    left('net.pth', dead)
    left('.hidden', dead)
    folder = left('model', dead)
    folder.unlink()
    folder.mkdir()
    (folder / 'a4.onnx').touch()
    sweep(tmp_path)
    assert names(tmp_path) == sorted(path.name for path in (living, *others))
    sweep(tmp_path / 'absent')


def test_a_folder_that_cannot_be_put_back_is_named(tmp_path, monkeypatch, dead):
    target, rename = tmp_path / 'model', os.replace
    target.mkdir()
    (target / 'old').touch()

    def replace(source, aim):
        if os.fspath(aim) == os.fspath(target):
            raise OSError(errno.ENOSPC, 'No space left on device', aim)
        rename(source, aim)

    with monkeypatch.context() as patch, pytest.raises(NotWritten, match='No space left') as caught:
        patch.setattr(os, 'replace', replace)
        with replacing_folder(target) as folder:
            (folder / 'new').touch()
    (aside,) = tmp_path.iterdir()
    assert f'What was there is {aside}; the next command' in str(caught.value)
    aside.rename(aside.with_name(aside.name.replace(f'.{os.getpid()}-', f'.{dead}-')))
    sweep(tmp_path)
    assert names(tmp_path) == ['model'] and names(target) == ['old']


def test_folders_below_are_swept_too(tmp_path, left, dead):
    for folder in (tmp_path, tmp_path / 'below', tmp_path / 'below' / 'there'):
        folder.mkdir(exist_ok=True)
        left('a.png', dead).rename(folder / left('a.png', dead).name)
        (folder / 'a.png').touch()
    sweep_below(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*') if path.is_file()) == [
        'a.png', 'below/a.png', 'below/there/a.png']  # fmt: skip
    sweep_below(tmp_path / 'missing')


def test_what_other_machines_left_goes_after_a_day(tmp_path, left, dead):
    host = 'ffff' if atomic._host() != 'ffff' else '0000'
    young, old = left('a', dead, host=host), left('b', os.getpid(), host=host)
    day = time.time() - 25 * 3600
    os.utime(old, (day, day))
    sweep(tmp_path)
    assert names(tmp_path) == [young.name]


def test_a_folder_whose_replacement_was_killed_comes_back(tmp_path, left, dead):
    for name in ('lost', 'there'):
        path = left(name, dead, kind='old')
        path.unlink()
        path.mkdir()
        (path / 'before').touch()
    (tmp_path / 'there').mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == ['lost', 'there']
    assert names(tmp_path / 'lost') == ['before'] and names(tmp_path / 'there') == []


def test_links_are_not_followed(tmp_path, left, dead):
    (tmp_path / 'precious').mkdir()
    (tmp_path / 'precious' / 'a').touch()
    link = left('model', dead)
    link.unlink()
    link.symlink_to(tmp_path / 'precious')
    sweep(tmp_path)
    assert names(tmp_path) == ['precious'] and names(tmp_path / 'precious') == ['a']
