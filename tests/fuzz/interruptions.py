"""What can go wrong at each step of writing: the disk is full or broken, or the process is gone."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

STEPS = ('mkdir', 'replace', 'fsync')  # of os, besides opening a file and writing to it


class _File:
    """A file of which half is written before the step fails."""

    def __init__(self, file, step: Callable) -> None:
        self._file, self._step = file, step

    def write(self, content) -> int:
        def half() -> None:
            self._file.write(bytes(content)[: len(content) // 2])
            self._file.flush()

        self._step(half)
        return self._file.write(content)

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)


@contextmanager
def interrupted(at: int, fail: Callable[[], None]):
    """Within the block, the step number ``at`` of those that write to the disk fails.

    Args:
        at: From 0.
        fail: Raises, or does not come back.

    Yields:
        A list with the number of steps so far.
    """
    count, opened = [0], builtins.open

    def step(before: Callable[[], None] = lambda: None) -> None:
        count[0] += 1
        if count[0] == at + 1:
            before()
            fail()

    def counted(function: Callable) -> Callable:
        def call(*args, **options):
            step()
            return function(*args, **options)

        return call

    def open_(file, mode='r', *args, **options):
        if not set(mode) & set('wxa'):
            return opened(file, mode, *args, **options)
        step()
        return _File(opened(file, mode, *args, **options), step)

    with ExitStack() as stack:
        for name in STEPS:
            stack.enter_context(patch.object(os, name, counted(getattr(os, name))))
        stack.enter_context(patch.object(builtins, 'open', open_))
        yield count


def in_a_child(action: Callable[[], None]) -> int:
    """Run in a copy of this process, which then is gone without any clearing up; its exit status."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
