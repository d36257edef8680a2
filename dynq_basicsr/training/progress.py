"""A progress bar in a terminal; elsewhere BasicSR's own log lines do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm


class TrainingBar:
    """Shows stage, figures and the time left while a training loop runs; of several processes, the first shows them.

    Args:
        total: Iterations in all.
        done: Iterations that an earlier run finished.
        every: Iterations after which figures are fetched: a GPU must finish its work for that.
    """

    def __init__(self, total: int, done: int = 0, every: int = 1) -> None:
        self._every = every
        self._stack = ExitStack()
        self._bar = None
        if sys.stderr.isatty() and get_dist_info()[0] == 0:
            self._stack.enter_context(logging_redirect_tqdm(loggers=[get_root_logger()]))
            self._bar = self._stack.enter_context(tqdm(total=total, initial=done, unit='it', dynamic_ncols=True))

    def update(self, stage: str, figures: Callable[[], dict[str, float]]) -> None:
        """Count one iteration.

        Args:
            stage: What is going on.
            figures: Gives name -> value, shown behind the bar.
        """
        if self._bar is None:
            return
        self._bar.set_description(stage, refresh=False)
        if (self._bar.n + 1) % self._every == 0:
            self._bar.set_postfix({name: f'{value:.3g}' for name, value in figures().items()}, refresh=False)
        self._bar.update()
        if self._bar.n >= self._bar.total:
            self.close()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._stack.close()
        self._bar = None
