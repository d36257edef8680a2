"""Progress: a bar in a terminal or a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LINE_EVERY = 15.0  # seconds
NOTEBOOK_EVERY = 2.0  # seconds between two states of a bar of text, which a notebook's file may keep all


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    return 'ipykernel' in sys.modules


class TrainingBar:
    """Shows stage, figures and the time left while a training loop runs; of several processes, the first shows them.

    Args:
        total: Iterations in all.
        done: Iterations that an earlier run finished.
        every: Iterations after which figures are fetched: a GPU must finish its work for that.
        lines: Write lines to stderr where no bar can be shown; BasicSR's loop writes its own.
    """

    def __init__(self, total: int, done: int = 0, every: int = 1, lines: bool = False) -> None:
        self._every, self._total = every, total
        self._done = self._first = done
        self._stack = ExitStack()
        self._bar = None
        shown = get_dist_info()[0] == 0
        self._lines = lines and shown
        self._began = self._told = time.monotonic()
        if not shown:
            return
        if in_notebook() and find_spec('ipywidgets'):
            from tqdm.notebook import tqdm as widget

            self._bar = self._stack.enter_context(widget(total=total, initial=done, unit='it'))
        elif in_notebook() or sys.stderr.isatty():
            self._stack.enter_context(logging_redirect_tqdm(loggers=[get_root_logger()]))
            every = NOTEBOOK_EVERY if in_notebook() else 0.1
            self._bar = self._stack.enter_context(
                tqdm(total=total, initial=done, unit='it', dynamic_ncols=True, mininterval=every)
            )

    def update(self, stage: str, figures: Callable[[], dict[str, float]]) -> None:
        """Count one iteration.

        Args:
            stage: What is going on.
            figures: Gives name -> value, shown behind the bar.
        """
        self._done += 1
        if self._bar is None:
            if self._lines and time.monotonic() - self._told > LINE_EVERY:
                self._tell(stage)
            return
        self._bar.set_description(stage, refresh=False)
        if self._done % self._every == 0:
            self._bar.set_postfix({name: f'{value:.3g}' for name, value in figures().items()}, refresh=False)
        self._bar.update()
        if self._done >= self._total:
            self.close()

    def _tell(self, stage: str) -> None:
        self._told = time.monotonic()
        pace = (self._told - self._began) / (self._done - self._first)
        left = pace * (self._total - self._done)
        print(f'{stage}: {self._done} of {self._total} iterations, about {left:.0f} s left', file=sys.stderr)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._stack.close()
        self._bar = None
