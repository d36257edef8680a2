"""Options that several commands have, and what they call their files."""

from __future__ import annotations

import argparse


def add_plugin(parser: argparse._ActionsContainer) -> None:
    """Add ``--plugin``, which brings registrations of the user's; ``given.plugin`` is a list for ``load_plugins``.

    Args:
        parser: A parser, or a group of one.
    """
    what = 'Python file or module that registers architectures, models or data sets of your own; may be repeated'
    parser.add_argument('--plugin', action='append', default=[], metavar='FILE', help=what)
