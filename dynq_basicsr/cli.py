"""BasicSR's trainer and tester as commands of ours, with the plugin loaded."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

from dynq_basicsr import _autoload
from dynq_basicsr.command import fail
from dynq_basicsr.errors import DynqError


def main(module: str, pipeline: str) -> int:
    """Run one of BasicSR's pipelines with everything it writes below the current directory.

    Args:
        module: BasicSR's module, as ``'basicsr.train'``.
        pipeline: The function in it that takes the root path.

    Returns:
        The exit code: 0, 2 after an error that the user can mend, or 130 when interrupted.
    """
    try:
        _autoload.install(force=True)
        try:
            import_module('basicsr')
        except ModuleNotFoundError as error:
            if error.name != 'basicsr':
                raise
            raise DynqError('BasicSR is not installed; after torch and torchvision, run '
                            '`pip install --no-deps --no-build-isolation basicsr==1.4.2`.') from error
        # Again, because the start-up hook swallows what goes wrong here; registering twice is harmless.
        import_module('dynq_basicsr.plugin').register()
        getattr(import_module(module), pipeline)(os.getcwd())
    except DynqError as error:
        return fail(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return fail(DynqError(f'The disk is full ({error.filename or os.getcwd()}); make room and run again.'))
    except KeyboardInterrupt:
        print('dynq_basicsr: interrupted; --auto_resume goes on from the last saved state.', file=sys.stderr)
        return 130
    return 0
