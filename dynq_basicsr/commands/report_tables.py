"""``dynq report tables``: the figures of test runs as one table, a row for each run.

    dynq report tables results/RUN_A results/RUN_B [--markdown]
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('runs', nargs='+', metavar='RUN', help='results folder of a test run, or LABEL=FOLDER')
    parser.add_argument('--markdown', action='store_true', help='a table for a document')


def run(given: argparse.Namespace) -> None:
    """Print it.

    Args:
        given: The command line.

    Raises:
        DynqError: If a run has no figures.
    """
    from dynq_basicsr.report.tables import format_table, metrics_table

    pairs = [run.rpartition('=') for run in given.runs]
    runs = {label or Path(folder).name: folder for label, _, folder in pairs}
    print(format_table(*metrics_table(runs), 'markdown' if given.markdown else 'plain'))
