"""Whatever interrupts a save, the previous checkpoint stays loadable."""

import errno
import resource
import signal
import subprocess
import sys

import pytest
import torch

from dynq_basicsr.errors import DynqError
from dynq_basicsr.training import saving
from dynq_basicsr.training.saving import save_atomically

OLD, NEW = {'params': {'w': torch.zeros(1000)}}, {'params': {'w': torch.ones(200_000)}}


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a checkpoint that was saved before."""
    path = tmp_path / 'models' / 'net_g_latest.pth'
    path.parent.mkdir()
    save_atomically(OLD, path)
    return path


def is_untouched(path):
    alone = [one.name for one in path.parent.iterdir()] == [path.name]
    return alone and torch.equal(torch.load(path, weights_only=True)['params']['w'], OLD['params']['w'])


def test_a_save_replaces_the_file_and_leaves_nothing_else(checkpoint):
    assert is_untouched(checkpoint)
    save_atomically(NEW, str(checkpoint))
    assert torch.equal(torch.load(checkpoint, weights_only=True)['params']['w'], NEW['params']['w'])
    assert [one.name for one in checkpoint.parent.iterdir()] == [checkpoint.name]


def test_the_device_is_full(checkpoint, monkeypatch):
    def save(content, file):
        file.write(b'half of it')
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(saving.torch, 'save', save)
    with pytest.raises(DynqError, match=r'net_g_latest\.pth: cannot be saved \(No space left on device\)') as caught:
        save_atomically(NEW, checkpoint)
    assert is_untouched(checkpoint) and '\n' not in str(caught.value)


def test_a_real_write_fails(checkpoint):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DynqError, match=r'net_g_latest\.pth: cannot be saved'):
            save_atomically(NEW, checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert is_untouched(checkpoint)


def test_torch_gives_up(checkpoint, monkeypatch):
    def save(content, file):
        raise RuntimeError('[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0\nmore')

    monkeypatch.setattr(saving.torch, 'save', save)
    with pytest.raises(DynqError, match='enforce fail') as caught:
        save_atomically(NEW, checkpoint)
    assert is_untouched(checkpoint) and 'more' not in str(caught.value)


def test_flushing_fails(checkpoint, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.EIO, 'Input/output error')

    monkeypatch.setattr(saving.os, 'fsync', fsync)
    with pytest.raises(DynqError, match='Input/output error'):
        save_atomically(NEW, checkpoint)
    assert is_untouched(checkpoint)


def test_the_folder_is_not_there(tmp_path):
    with pytest.raises(DynqError, match=r'absent/net\.pth: cannot be saved \(No such file or directory\)'):
        save_atomically(NEW, tmp_path / 'absent' / 'net.pth')


CHILD = """
import os, sys, time
import torch
from dynq_basicsr.training import saving

def stop_here(*_):
    print('now', flush=True)
    time.sleep(60)

moment, path = sys.argv[1:]
whole = torch.save
def half(content, file):
    whole(content, file)
    file.truncate(file.tell() // 2)
    file.flush()
    stop_here()
if moment == 'half written':
    torch.save = half
else:
    os.replace = stop_here
saving.save_atomically({'params': {'w': torch.ones(200000)}}, path)
"""


@pytest.mark.parametrize('moment', ['half written', 'not renamed yet'])
def test_kill_9_leaves_the_previous_checkpoint(checkpoint, repository, moment):
    child = subprocess.Popen(
        [sys.executable, '-c', CHILD, moment, str(checkpoint)], stdout=subprocess.PIPE, text=True, cwd=repository
    )
    assert child.stdout.readline().strip() == 'now'
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert torch.equal(torch.load(checkpoint, weights_only=True)['params']['w'], OLD['params']['w'])
    # what is left behind is hidden and no checkpoint by its name, so nobody resumes from it
    others = [one.name for one in checkpoint.parent.iterdir() if one != checkpoint]
    assert all(name.startswith('.') and not name.endswith(('.pth', '.state')) for name in others)
    save_atomically(NEW, checkpoint)
    assert torch.equal(torch.load(checkpoint, weights_only=True)['params']['w'], NEW['params']['w'])
