"""What can go wrong at each step of writing: the disk is full or broken, or the process is gone."""

from __future__ import annotations

import builtins
import io
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

STEPS = ('mkdir', 'rename', 'replace', 'fsync')  # of os, besides opening a file and writing to it
KILLED = 9


class _File:
    """A file of which half is written before the step fails."""

    def __init__(self, file, step: Callable) -> None:
        self._file, self._step = file, step

    def write(self, content) -> int:
        def half() -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()

        self._step(before=half, what=self._file.name)
        return self._file.write(content)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *error):
        return self._file.__exit__(*error)

    def __iter__(self):
        return iter(self._file)


@contextmanager
def interrupted(at: int, fail: Callable[..., None], lasting: bool = False):
    """Within the block, the step number ``at`` of those that write to the disk fails.

    Args:
        at: From 0; below: none.
        fail: Raises, or does not come back; gets the names that the system would put into its error.
        lasting: All steps after it fail, too, as on a disk that is full.

    Yields:
        A list that grows with the steps: the file or folder of each, '' where the system knows none.
    """
    steps, opened, os_opened, lock = [], builtins.open, os.open, threading.Lock()

    def step(*names, before: Callable[[], None] = lambda: None, what: object = '') -> None:
        with lock:  # TensorBoard writes in a thread of its own
            now = len(steps)
            steps.append(str(names[0] if names else what))
        if now == at or (lasting and 0 <= at < now):
            before()
            fail(*names)

    def counted(function: Callable) -> Callable:
        def call(*args, **options):
            step(*(one for one in args if isinstance(one, str | os.PathLike)))
            return function(*args, **options)

        return call

    def open_(file, mode='r', *args, **options):
        if not set(mode) & set('wxa+') or file == os.devnull:
            return opened(file, mode, *args, **options)
        step(file)
        return _File(opened(file, mode, *args, **options), step)

    def os_open(file, flags, *args, **options):
        if flags & os.O_CREAT:
            step(file)
        return os_opened(file, flags, *args, **options)

    with ExitStack() as stack:
        for name in STEPS:
            stack.enter_context(patch.object(os, name, counted(getattr(os, name))))
        stack.enter_context(patch.object(os, 'open', os_open))
        for module in (builtins, io):
            stack.enter_context(patch.object(module, 'open', open_))
        yield steps


def failing(number: int) -> Callable[..., None]:
    """The failure of a step with one of the system's numbers, as ``errno.ENOSPC``."""

    def fail(name=None, other=None) -> None:
        raise OSError(number, os.strerror(number), name, None, other)

    return fail


def killed(*names) -> None:
    """The process is gone at this step."""
    os._exit(KILLED)


def in_a_child(action: Callable[[], None]) -> int:
    """Run in a copy of this process, which then is gone without any clearing up; its exit status."""
    child = os.fork()
    if not child:
        try:
            action()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
