"""How a command ends: a user's mistake costs one line on stderr and a non-zero exit code, never a traceback."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import TracebackType

from dynq_basicsr.errors import DynqError


def run_command(action: Callable[[], int | None]) -> int:
    """Run an action; a mistake of the user costs one line on stderr.

    Args:
        action: Takes nothing; returns an exit code of its own, or nothing.

    Returns:
        The exit code: the action's, 0 where it gives none, or 2 after an error that the user can mend.
    """
    escape_names()
    heed_ctrl_c()
    try:
        return action() or 0
    except DynqError as error:
        return fail(error)
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        raise
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        return fail(DynqError(f'{where}{error.strerror or error}; check the path and the disk.'))


def escape_names() -> None:
    """Let stdout and stderr show names that their encoding lacks, escaped: no file's name may end a command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')


def heed_ctrl_c() -> None:
    """Let SIGINT interrupt, also where a shell switched it off because it started the command in the background."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def fail(error: DynqError) -> int:
    """Tell the user of an error.

    Args:
        error: What the user can mend.

    Returns:
        The exit code for it, 2.
    """
    print(format_error(error), file=sys.stderr)
    return 2


def format_error(error: BaseException) -> str:
    """Return what the user reads of an error.

    Args:
        error: A :class:`DynqError`; torch raises those of its data-loading processes anew, with the traceback of
            that process as their text.

    Returns:
        One line without a traceback.
    """
    return f'dynq_basicsr: error: {str(error).rpartition("DynqError: ")[2].strip()}'


def say_errors_in_one_line() -> None:
    """Install a ``sys.excepthook`` by which BasicSR's own scripts, too, end in a sentence; once."""
    if sys.excepthook is not _excepthook:
        _excepthook.otherwise = sys.excepthook
        sys.excepthook = _excepthook


def _excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, DynqError):
        print(format_error(error), file=sys.stderr)
    else:
        _excepthook.otherwise(kind, error, traceback)
