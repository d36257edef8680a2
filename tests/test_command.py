"""Mistakes cost one line and exit code 2; bugs keep their traceback."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest

from dynq_basicsr.command import format_error, run_command
from dynq_basicsr.errors import DynqError


def raising(error: Exception):
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (DynqError('a.png: damaged.'), 'a.png: damaged.'),
        (OSError(28, 'Disk is full', 'b.png'), 'b.png: Disk is full; check the path and the disk.'),
    ],
)
def test_mistakes(capsys, error, line):
    assert run_command(raising(error)) == 2
    assert capsys.readouterr().err == f'dynq_basicsr: error: {line}\n'


def test_success_and_bugs():
    assert run_command(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))


def test_sentence_of_a_data_loading_process():
    text = ('Caught DynqError in worker process 0.\nOriginal Traceback:\n  ...\n'
            'dynq_basicsr.errors.DynqError: x.png is empty.\n')
    assert format_error(DynqError(text)) == 'dynq_basicsr: error: x.png is empty.'
    assert format_error(DynqError('a: b')) == 'dynq_basicsr: error: a: b'


@pytest.mark.parametrize('statement, expected', [
    ('raise DynqError("mend it.")', ['dynq_basicsr: error: mend it.']),
    ('raise ValueError("other")', ['Traceback (most recent call last):', 'ValueError: other']),
])
def test_scripts_end_in_one_line(statement, expected):
    code = ('from dynq_basicsr.command import say_errors_in_one_line\nfrom dynq_basicsr.errors import DynqError\n'
            'say_errors_in_one_line()\nsay_errors_in_one_line()\n' + statement)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and [lines[0], lines[-1]] == [expected[0], expected[-1]]
    assert len(lines) == 1 or 'ValueError' in lines[-1]


@pytest.mark.parametrize(('encoding', 'shown'), [('utf-8', r'caf\udce9 名'), ('cp1252', r'caf\udce9 \u540d')])
def test_names_that_the_terminal_cannot_show_are_escaped(monkeypatch, encoding, shown):
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors='strict') for _ in range(2)]
    monkeypatch.setattr(sys, 'stdout', streams[0])
    monkeypatch.setattr(sys, 'stderr', streams[1])

    def action() -> None:
        print('caf\udce9 名')
        raise DynqError('caf\udce9 名: damaged.')

    assert run_command(action) == 2
    out, err = ((stream.flush(), stream.buffer.getvalue().decode(encoding))[1] for stream in streams)
    assert out.strip() == shown and err.strip() == f'dynq_basicsr: error: {shown}: damaged.'


def test_ctrl_c_interrupts_also_what_a_shell_started_in_the_background():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_command(lambda: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
