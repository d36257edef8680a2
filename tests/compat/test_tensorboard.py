"""TensorBoard's figures where they cannot be written."""

import errno
import sys
import threading
from types import SimpleNamespace

import pytest

from dynq_basicsr import plugin
from dynq_basicsr.errors import DynqError
from tests.fuzz.interruptions import failing, interrupted

plugin.register()
pytest.importorskip('tensorboard', reason='tensorboard (extra train) is not installed')


@pytest.fixture
def begin(tmp_path):
    """Make the writer of a run."""

    def make(kind='QuantizedModel'):
        opt = {'name': 'tiny', 'model_type': kind, 'root_path': str(tmp_path), 'logger': {'use_tb_logger': True},
               'network_g': {'type': 'EDSR'}, 'datasets': {}}  # fmt: skip
        return sys.modules['basicsr.train'].init_tb_loggers(opt)

    return make


def test_they_are_given_up_with_one_warning(begin, tmp_path, log_lines, capfd):
    writer = begin()
    with interrupted(0, failing(errno.ENOSPC), lasting=True) as steps:
        for iteration in range(5):
            writer.add_scalar('loss', 1.0, iteration)
            writer.flush()
    writer.close()
    folder = tmp_path / 'tb_logger' / 'tiny'
    assert steps and log_lines == [f'{folder}: no more figures are written there (No space left on device).']
    assert 'Traceback' not in capfd.readouterr().err


@pytest.mark.parametrize('step', range(3))
def test_a_folder_that_cannot_be_written_from_the_start_is_named(begin, step):
    with interrupted(step, failing(errno.EIO)), pytest.raises(DynqError, match='tb_logger/tiny: cannot be written'):
        begin()


def test_runs_of_others_have_tensorboards_own_writer(begin):
    assert type(begin('SRModel')).__name__ == 'SummaryWriter'


def test_other_threads_tell_what_happened_to_them(begin, capsys, monkeypatch):
    begin()
    seen = []
    monkeypatch.setattr(threading.excepthook, 'otherwise', seen.append)
    failure = SimpleNamespace(thread=threading.current_thread(), exc_type=OSError)
    threading.excepthook(failure)
    assert seen == [failure]
