"""``dynq train``: BasicSR's trainer with our plugin, below the current directory."""

from __future__ import annotations

import argparse

from dynq_basicsr.commands import pipeline

INTERRUPTED = '--auto_resume goes on from the last saved state, if there is one.'
add_arguments = pipeline.add_arguments


def run(given: argparse.Namespace) -> None:
    """Train by an option file.

    Args:
        given: The command line.

    Raises:
        DynqError: If something is missing or the options do not fit.
    """
    pipeline.run(given, 'basicsr.train', 'train_pipeline')
