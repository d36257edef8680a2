"""Whole commands, in this process, of which a step of writing fails; what the user is told is checked here."""

from __future__ import annotations

import errno
import gc
import io
import logging
import os
import random
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from basicsr.utils.logger import initialized_logger

from dynq_basicsr.cli import main
from tests.fuzz.interruptions import KILLED, failing, in_a_child, interrupted, killed

# What fails: a disk that is full from then on, one that cannot write once, the process itself.
FULL, BROKEN, KILL = FAILURES = 'full', 'broken', 'kill'
_NUMBERS = {FULL: errno.ENOSPC, BROKEN: errno.EIO}
_ERROR = 'dynq_basicsr: error: '


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """The sentences about what failed."""
        return [line for line in self.err.splitlines() if line.startswith(_ERROR)]


def command(*words: object) -> Outcome:
    """Run ``dynq``; whatever it raises is told as a traceback, as the interpreter would."""
    if words[0] == 'train':
        gc.collect()  # it lets go of its folder with its options
    _close_the_log()
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except Exception:
            code = 1
            traceback.print_exc()
    return Outcome(code, out.getvalue(), err.getvalue())


def disturbed(failure: str, step: int, folder: Path, *words: object) -> bool:
    """Run ``dynq`` while a step fails.

    Args:
        failure: One of ``FAILURES``.
        step: Which, from 0.
        folder: What a sentence about it has to name, or something below it.
        *words: The command line.

    Returns:
        Whether the command came to a good end all the same, as where only a line of its log was lost.
    """
    if failure == KILL:

        def run() -> None:
            with interrupted(step, killed):
                command(*words)

        assert in_a_child(run) in (KILLED, 0)  # threads may take a step less
        return False
    number = _NUMBERS[failure]
    with interrupted(step, failing(number), lasting=failure == FULL):
        outcome = command(*words)
    assert 'Traceback' not in outcome.err, outcome.err
    assert all(str(path) in outcome.err for path in temporaries(folder))
    if outcome.code:
        assert len(outcome.errors) == 1 and outcome.code in (1, 2), outcome.err
        assert str(folder) in outcome.errors[0] and os.strerror(number) in outcome.errors[0], outcome.errors
    return not outcome.code


def steps_of(*words: object) -> list[str]:
    """The steps of a command that is not disturbed, see ``interrupted``."""
    with interrupted(-1, killed) as steps:
        outcome = command(*words)
    assert outcome.code == 0, outcome.err
    return steps


def sampled(steps: Sequence[str], count: int, failures: Sequence[str]) -> list[tuple[str, int]]:
    """Failures, each at some of the steps, always the same; at all of them where ``DYNQ_ALL_STEPS`` is set.

    Args:
        steps: As ``steps_of`` gives them; lines of a log are many and alike, so that one is taken
            at most, for the first failure.
        count: How many.
        failures: Of ``FAILURES``.
    """
    if os.environ.get('DYNQ_ALL_STEPS'):
        return list(product(failures, range(len(steps))))
    lines = [number for number, step in enumerate(steps) if step.endswith('.log')]
    others = [number for number in range(len(steps)) if number not in lines]
    chosen = [(failures[0], step) for step in lines[len(lines) // 2 :][:1]]
    for failure in failures:
        drawn = random.Random(failure)
        chosen += [(failure, step) for step in drawn.sample(others, min(len(others), count))]
    return chosen


def temporaries(folder: Path) -> list[Path]:
    """What was about to become a file or folder, and did not."""
    return [path for path in folder.rglob('.*') if path.name.endswith(('.tmp', '.old'))]


def as_left_by_the_dead(folder: Path) -> None:
    """Have what this process left in a folder look as if the process were gone."""
    for path in temporaries(folder):
        path.rename(path.with_name(path.name.replace(f'.{os.getpid()}-', '.4194304-')))


def _close_the_log() -> None:
    """Let the next run open a log of its own, which BasicSR does once in a process."""
    log = logging.getLogger('basicsr')
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    initialized_logger.pop('basicsr', None)
