"""Runs a command of the package in a process of its own: its words go to a log, its iterations to whoever watches."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dynq_basicsr.errors import DynqError

PATIENCE = 10  # seconds in which an interrupted command may end by itself


def run_module(
    module: str,
    option_file: str | Path,
    log: Path,
    on_iteration: Callable[[int], None] = lambda iteration: None,
    flags: Sequence[str] = (),
    folder: Path | None = None,
) -> None:
    """Run ``python -m MODULE -opt FILE``; it ends where this process is interrupted or killed.

    Args:
        module: ``dynq_basicsr.train`` or ``dynq_basicsr.test``.
        option_file: Absolute, or relative to the folder.
        log: File to append to.
        on_iteration: Called with each iteration that the command reports.
        flags: Further arguments.
        folder: To run in; None: the current one.

    Raises:
        DynqError: If it fails; tells its last line.
    """
    # Each a KeyboardInterrupt; a shell that starts this process in the background has switched the first off.
    before = {kind: signal.signal(kind, signal.default_int_handler) for kind in (signal.SIGINT, signal.SIGTERM)}
    last, command = '', [sys.executable, '-m', module, '-opt', str(option_file), *flags]
    with open(log, 'a', encoding='utf-8') as file, subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
    ) as process:  # fmt: skip
        try:
            for line in process.stdout:
                file.write(line)
                last = line.strip() or last
                iteration = re.search(r'iter:\s*([\d,]*\d)', line)
                if iteration:
                    on_iteration(int(iteration[1].replace(',', '')))
        except BaseException:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)
    if process.returncode:
        reason = last.removeprefix('dynq_basicsr: error: ')
        raise DynqError(f'{option_file} failed: {reason} The whole log is in {log}.')
