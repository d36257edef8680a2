"""``dynq test``: BasicSR's tester with our plugin, below the current directory."""

from __future__ import annotations

import argparse

from dynq_basicsr.commands import pipeline

add_arguments = pipeline.add_arguments


def run(given: argparse.Namespace) -> None:
    """Evaluate by an option file.

    Args:
        given: The command line.

    Raises:
        DynqError: If something is missing or the options do not fit.
    """
    pipeline.run(given, 'basicsr.test', 'test_pipeline')
