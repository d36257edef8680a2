"""Ending a training between two iterations when the user or the system asks for it."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

_HANGUP = getattr(signal, 'SIGHUP', None)  # of a terminal that closes; Windows has none
SIGNALS = (signal.SIGINT, signal.SIGTERM, *([_HANGUP] if _HANGUP else []))
INTERRUPTED = 130  # exit code of a process that Ctrl-C ends


class Interruption:
    """Takes Ctrl-C, SIGTERM and SIGHUP while a training goes on.

    It takes Ctrl-C also where a shell switched it off; SIGHUP stays ignored where it is, as ``nohup`` wants it. The
    first signal only sets ``asked``, for whoever looks between iterations. A second one ends the process at once.

    Args:
        patient: Take any further one for the first, as where whoever started several processes sends them, too.

    Attributes:
        asked: Whether the training shall end.
        saved: The newest iteration from which it could be resumed.
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.asked = False
        self.saved: int | None = None
        self._before: dict[int, object] = {}  # signal -> who took it

    def listen(self) -> None:
        """Begin; only the main thread can, and does it once."""
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        for kind in SIGNALS:
            if kind == _HANGUP and signal.getsignal(kind) == signal.SIG_IGN:
                continue
            handler = _Handler(self, signal.getsignal(kind))
            signal.signal(kind, handler)
            self._before[kind] = handler.before

    def stop_listening(self) -> None:
        """Give the signals back."""
        while self._before:
            kind, before = self._before.popitem()
            signal.signal(kind, signal.SIG_DFL if before is None else before)  # None: not Python's

    def take(self) -> None:
        """Note a signal, or end the process at the second.

        Raises:
            SystemExit: At the second, with ``INTERRUPTED``.
        """
        if self.asked and not self.patient:
            _say(f'interrupted at once; {self.outcome()}.')
            raise SystemExit(INTERRUPTED)
        if not self.asked:
            _say('asked to end; ' + (
                'all processes do so where they print their figures next.' if self.patient
                else 'this iteration is finished and saved first. Once more ends it at once.'
            ))  # fmt: skip
        self.asked = True

    def outcome(self) -> str:
        """What is true of the training now."""
        if self.saved is None:
            return 'nothing was saved yet'
        return f'saved at iteration {self.saved}, and --auto_resume goes on from there'


class _Handler:
    """A signal handler that does not keep the training alive, and passes on what comes after it."""

    def __init__(self, interruption: Interruption, before: object) -> None:
        self._interruption = weakref.ref(interruption)
        while isinstance(before, _Handler) and before._interruption() is None:
            before = before.before
        self.before = before

    def __call__(self, kind: int, frame: FrameType | None) -> None:
        interruption = self._interruption()
        if interruption is not None:
            interruption.take()
        elif callable(self.before):
            self.before(kind, frame)
        elif self.before == signal.SIG_DFL:
            signal.signal(kind, signal.SIG_DFL)
            os.kill(os.getpid(), kind)


def _say(message: str) -> None:
    """Write past Python's buffers: a signal may have interrupted somebody at just these."""
    with suppress(OSError):  # of a terminal that is gone
        os.write(2, f'\ndynq_basicsr: {message}\n'.encode())


def spare_workers(loader: DataLoader) -> None:
    """Let signals that a terminal or a scheduler sends to all processes leave those of a loader alone.

    They end with this process, or by its order: a second SIGTERM, which it sends where they do not answer.

    Args:
        loader: Not iterated yet.
    """
    loader.worker_init_fn = _Spared(loader.worker_init_fn)


class _Spared:
    """What a worker runs first; a class, since workers that are spawned get it pickled."""

    def __init__(self, then: Callable[[int], None] | None) -> None:
        self._then = then

    def __call__(self, worker: int) -> None:
        for kind in SIGNALS:
            signal.signal(kind, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda kind, frame: signal.signal(kind, signal.SIG_DFL))
        if self._then:
            self._then(worker)
