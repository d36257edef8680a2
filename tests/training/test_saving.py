"""Whatever interrupts a save, the previous checkpoint stays loadable."""

import resource
import signal
import subprocess
import sys

import pytest
import torch

from dynq_basicsr.errors import DynqError
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


def test_a_real_write_fails(checkpoint):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(DynqError, match=r'net_g_latest\.pth: cannot be written \(File too large\)'):
            save_atomically(NEW, checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert is_untouched(checkpoint)


def test_the_folder_is_not_there(tmp_path):
    with pytest.raises(DynqError, match=r'absent/net\.pth: cannot be written \(No such file or directory\)'):
        save_atomically(NEW, tmp_path / 'absent' / 'net.pth')


def test_basicsr_reads_it(checkpoint):
    from basicsr.models.base_model import BaseModel

    model, net = BaseModel.__new__(BaseModel), torch.nn.ParameterDict({'w': torch.nn.Parameter(torch.ones(1000))})
    model.load_network(net, str(checkpoint), param_key='params')
    assert torch.equal(net['w'], OLD['params']['w'])


CHILD = """
import os, sys, time
import torch
from dynq_basicsr.training.saving import save_atomically

def stop_here(*_):
    print('now', flush=True)
    time.sleep(60)

moment, path = sys.argv[1:]
if moment == 'not flushed yet':
    os.fsync = stop_here
else:
    os.replace = stop_here
save_atomically({'params': {'w': torch.ones(200000)}}, path)
"""


@pytest.mark.parametrize('moment', ['not flushed yet', 'not renamed yet'])
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
    assert len(others) == 1 and others[0].startswith('.net_g_latest.pth.') and others[0].endswith('.tmp')
    save_atomically(NEW, checkpoint)  # and the next save removes it
    assert [one.name for one in checkpoint.parent.iterdir()] == [checkpoint.name]
    assert torch.equal(torch.load(checkpoint, weights_only=True)['params']['w'], NEW['params']['w'])
