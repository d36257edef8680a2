"""Signals, taken while a training goes on and given back."""

import os
import signal
import subprocess
import sys
import threading

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from dynq_basicsr._autoload import VARIABLE
from dynq_basicsr.training.interruption import Interruption, spare_workers


@pytest.fixture
def seen():
    """Signals that arrive at who listened before."""
    arrived, before = [], {}
    for kind in (signal.SIGINT, signal.SIGTERM):
        before[kind] = signal.signal(kind, lambda number, frame: arrived.append(number))
    yield arrived
    for kind, handler in before.items():
        signal.signal(kind, handler)


def send(kind):
    os.kill(os.getpid(), kind)


@pytest.mark.parametrize('kind', [signal.SIGINT, signal.SIGTERM])
def test_the_first_is_noted_and_the_second_ends_the_process(seen, capfd, kind):
    one = Interruption()
    one.listen()
    one.listen()
    assert not one.asked
    send(kind)
    assert one.asked and 'asked to end' in capfd.readouterr().err
    with pytest.raises(SystemExit) as end:
        send(kind)
    assert end.value.code == 130 and 'nothing was saved yet' in capfd.readouterr().err
    assert seen == []
    one.stop_listening()
    send(kind)
    assert seen == [kind]


@pytest.mark.skipif(not hasattr(signal, 'SIGHUP'), reason='this system has no SIGHUP')
def test_a_terminal_that_closes_is_noted_unless_the_process_was_started_to_outlive_it():
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        one, other = Interruption(), Interruption()
        one.listen()
        send(signal.SIGHUP)
        one.stop_listening()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
        other.listen()
        send(signal.SIGHUP)
        other.stop_listening()
        assert one.asked and not other.asked and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_of_several_processes_none_ends_by_itself(seen, capfd):
    one = Interruption(patient=True)
    one.listen()
    for _ in range(3):
        send(signal.SIGTERM)
    assert one.asked and capfd.readouterr().err.count('asked to end') == 1
    one.stop_listening()


def test_it_says_what_was_saved():
    one = Interruption()
    one.saved = 20
    assert one.outcome() == 'saved at iteration 20, and --auto_resume goes on from there'


def test_signals_of_trainings_that_are_gone_go_to_who_listened_before(seen):
    before = signal.getsignal(signal.SIGINT)
    for _ in range(3):
        one = Interruption()
        one.listen()
        assert signal.getsignal(signal.SIGINT).before is before
        del one
    send(signal.SIGINT)
    assert seen == [signal.SIGINT]


def test_the_system_ends_the_process_where_nobody_listened_before():
    code = (
        'import os, signal\n'
        'from dynq_basicsr.training.interruption import Interruption\n'
        'one = Interruption()\none.listen()\ndel one\n'
        'os.kill(os.getpid(), signal.SIGTERM)\nprint("alive")'
    )
    environment = {**os.environ, VARIABLE: '0'}
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, env=environment)
    assert done.returncode == -signal.SIGTERM and done.stdout == ''


def test_other_threads_take_no_signals(seen):
    one = Interruption()
    thread = threading.Thread(target=one.listen)
    thread.start()
    thread.join()
    send(signal.SIGINT)
    assert seen == [signal.SIGINT] and not one.asked


class Ends(TensorDataset):
    """Sends signals to the process that reads it."""

    def __getitem__(self, index):
        for kind in (signal.SIGINT, signal.SIGTERM):
            send(kind)
        return super().__getitem__(index)


def test_workers_go_on_where_everybody_gets_the_signal():
    ran = []
    loader = DataLoader(Ends(torch.arange(1)), num_workers=1, worker_init_fn=ran.append)
    spare_workers(loader)
    assert [int(batch[0]) for batch in loader] == [0]
    loader.worker_init_fn._then(7)
    assert ran == [7]
