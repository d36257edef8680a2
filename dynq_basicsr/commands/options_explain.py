"""``dynq options explain``: what a key of an option file means."""

from __future__ import annotations

import argparse
from importlib import import_module

from dynq_basicsr.doctor.require import require


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('key', help='as train.lr.weight or policy.image_factors')


def run(given: argparse.Namespace) -> None:
    """Print its meaning.

    Args:
        given: The command line.

    Raises:
        DynqError: If there is no such key; names near ones.
    """
    require('pydantic')
    print(import_module('dynq_basicsr.config.reference').explain(given.key))
