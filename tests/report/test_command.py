"""Mistakes cost one line and exit code 2; bugs keep their traceback."""

from __future__ import annotations

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.command import run_command


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
