"""Run one of the package's commands from a script: its words go to a log file, its iterations to whoever watches."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from dynq_basicsr.errors import DynqError

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 10  # seconds in which an interrupted command may end by itself


def run_module(
    module: str,
    option_file: str | Path,
    log: Path,
    on_iteration: Callable[[int], None] = lambda iteration: None,
    flags: Sequence[str] = (),
) -> None:
    """Run ``python -m MODULE -opt FILE`` from the project's folder; it ends where the script is interrupted or killed.

    Args:
        module: ``dynq_basicsr.train`` or ``dynq_basicsr.test``.
        option_file: Absolute, or relative to the project.
        log: File to append to.
        on_iteration: Called with each iteration that the command reports.
        flags: Further arguments.

    Raises:
        DynqError: If it fails; tells its last line.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # a KeyboardInterrupt, too
    last, command = '', [sys.executable, '-m', module, '-opt', str(option_file), *flags]
    with open(log, 'a', encoding='utf-8') as file, subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors='replace',
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
            signal.signal(signal.SIGTERM, before)
    if process.returncode:
        reason = last.removeprefix('dynq_basicsr: error: ')
        raise DynqError(f'{option_file} failed: {reason} The whole log is in {log}.')
