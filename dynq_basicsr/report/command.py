"""How the commands of this room start and end."""

from __future__ import annotations

import sys
from collections.abc import Callable

from dynq_basicsr import cli
from dynq_basicsr.errors import DynqError


def run_command(action: Callable[[], int | None]) -> int:
    """Run an action; a mistake of the user costs one line on stderr.

    Args:
        action: Takes nothing; returns an exit code of its own, or nothing.

    Returns:
        The exit code: the action's, 0 where it gives none, or 2 after an error that the user can mend.
    """
    try:
        return action() or 0
    except DynqError as error:
        print(cli.sentence(error), file=sys.stderr)
        return 2
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        message = f'{where}{error.strerror or error}; check the path and the disk.'
        print(cli.sentence(DynqError(message)), file=sys.stderr)
        return 2
