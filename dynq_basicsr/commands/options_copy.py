"""``dynq options copy``: a copy of an option file that ships with the package, to be edited."""

from __future__ import annotations

import argparse
from pathlib import Path

from dynq_basicsr import option_files
from dynq_basicsr.errors import DynqError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument('name', help='as `dynq options list` has it')
    parser.add_argument('dest', nargs='?', type=Path, default=Path(), help='a file, or a folder (default: this one)')


def run(given: argparse.Namespace) -> None:
    """Copy it; a file that is there stays.

    Args:
        given: The command line.

    Raises:
        DynqError: If no such file ships, or the copy would replace a file.
    """
    source = option_files.find(given.name)
    target = given.dest if given.dest.suffix in ('.yml', '.yaml') else given.dest / source.name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(target, 'x', encoding='utf-8', newline='\n') as file:
            file.write(option_files.read(source))
    except FileExistsError as error:
        raise DynqError(f'{target} exists already; give another DEST.') from error
    print(target)
