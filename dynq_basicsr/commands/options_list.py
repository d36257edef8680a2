"""``dynq options list``: the option files that ship with the package, each with the first line of its comment."""

from __future__ import annotations

import argparse

from dynq_basicsr import option_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('--names', action='store_true', help='the names alone')


def run(given: argparse.Namespace) -> None:
    """Print them.

    Args:
        given: The command line.
    """
    names = option_files.names()
    width = max(map(len, names))
    for name in names:
        print(name if given.names else f'{name:{width}}  {_first_words(name)}'.rstrip())


def _first_words(name: str) -> str:
    with open(option_files.find(name), encoding='utf-8') as file:
        line = file.readline()
    return line.removeprefix('#').strip() if line.startswith('#') else ''
