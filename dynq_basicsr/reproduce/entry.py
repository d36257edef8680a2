"""How a command that reproduces a paper begins."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from dynq_basicsr.doctor.require import require_basicsr
from dynq_basicsr.reproduce.paper import Paper


def runner(paper: Paper) -> Callable[[argparse.Namespace], None]:
    """The ``run`` of such a command: makes a table below the current directory.

    Args:
        paper: Whose table.
    """

    def run(given: argparse.Namespace) -> None:
        require_basicsr()
        from dynq_basicsr.reproduce import command

        command.run(paper, given, Path.cwd())

    return run
