"""Repair of how a training ends when TensorBoard's figures cannot be written."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable

from basicsr.utils import get_root_logger

from dynq_basicsr.compat.registries import run_is_ours
from dynq_basicsr.errors import DynqError


def exception_in_thread_when_the_disk_is_full() -> None:
    """Let a training of ours go on without TensorBoard's figures where they cannot be written.

    Symptom: ``Exception in thread Thread-1`` with a traceback, and another from whatever is written next, long before
        a checkpoint is due that may well fit.
    Cause: TensorBoard writes in a thread, whose failure is printed there and raised at the next figure.
    Cure: figures are given up with one warning, as lines of the log that do not fit are; files that matter fail with a
        sentence of their own.
    """
    module = sys.modules['basicsr.train']
    if not hasattr(module.init_tb_loggers, '__wrapped__'):
        module.init_tb_loggers = _lenient(module.init_tb_loggers)


def _lenient(original: Callable) -> Callable:
    @functools.wraps(original)
    def init_tb_loggers(opt: dict) -> object:
        if not run_is_ours(opt):
            return original(opt)
        if threading.excepthook is not _excepthook:
            _excepthook.otherwise = threading.excepthook
            threading.excepthook = _excepthook
        folder = os.path.join(opt['root_path'], 'tb_logger', opt['name'])
        try:
            writer = original(opt)
        except OSError as error:
            raise DynqError(
                f'{folder}: cannot be written ({error.strerror or error}); make room, or set logger.use_tb_logger: '
                'false.'
            ) from error
        return writer and _GivesUp(writer, folder)

    return init_tb_loggers


class _GivesUp:
    """A writer of TensorBoard's that does nothing any more once it could not write.

    Args:
        writer: TensorBoard's.
        folder: Where it writes, for the warning.
    """

    def __init__(self, writer: object, folder: str) -> None:
        self._writer, self._folder = writer, folder
        self._given_up = False

    def __getattr__(self, name: str) -> Callable:
        method = getattr(self._writer, name)

        @functools.wraps(method)
        def call(*arguments: object, **options: object) -> object:
            if self._given_up:
                return None
            try:
                return method(*arguments, **options)
            except OSError as error:
                self._given_up = True
                reason = error.strerror or error
                get_root_logger().warning(f'{self._folder}: no more figures are written there ({reason}).')
                return None

        return call


def _excepthook(failure: threading.ExceptHookArgs) -> None:
    """Leave what TensorBoard's thread could not write to the thread that gave it the figures."""
    theirs = type(failure.thread).__module__.split('.')[0] == 'tensorboard'
    if not (theirs and issubclass(failure.exc_type, OSError)):
        _excepthook.otherwise(failure)
