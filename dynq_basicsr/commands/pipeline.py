"""BasicSR's trainer and tester as commands of ours, with the plugin loaded."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from dynq_basicsr.commands.arguments import add_plugin
from dynq_basicsr.doctor.require import require_basicsr
from dynq_basicsr.errors import DynqError
from dynq_basicsr.registration import register


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """BasicSR's command line, and ``--plugin``."""
    parser.add_argument('-opt', required=True, metavar='FILE', help='the option file')
    parser.add_argument('--force_yml', nargs='+', action='extend', default=[], metavar='KEY=VALUE',
                        help='set options, as train:total_iter=500')  # fmt: skip
    add_plugin(parser)
    parser.add_argument('--auto_resume', action='store_true', help='go on from the last saved state')
    parser.add_argument('--debug', action='store_true', help='a short run under the name debug_NAME')
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm'), default='none', help='of several processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def run(given: argparse.Namespace, module: str, pipeline: str) -> None:
    """Run one of BasicSR's pipelines with everything it writes below the current directory.

    Args:
        given: The command line.
        module: BasicSR's module, as ``'basicsr.train'``.
        pipeline: The function in it that takes the root path.

    Raises:
        DynqError: If something is missing or the options do not fit.
    """
    require_basicsr()
    register(given.plugin)
    before = sys.argv
    sys.argv = [sys.argv[0], *command_line(given)]  # BasicSR reads it
    try:
        getattr(import_module(module), pipeline)(os.getcwd())
    except BrokenPipeError:  # whoever reads has seen enough
        raise
    except OSError as error:
        place = error.filename2 or error.filename or os.getcwd()  # the second is what is copied to
        raise DynqError(
            f'{place}: {error.strerror or error}; make room, or check the path and the disk, and run again.'
        ) from error
    finally:
        sys.argv = before


def command_line(given: argparse.Namespace) -> list[str]:
    """What of the command line is BasicSR's."""
    line = ['-opt', given.opt, '--launcher', given.launcher, '--local_rank', str(given.local_rank)]
    line += ['--auto_resume'] if given.auto_resume else []
    line += ['--debug'] if given.debug else []
    return [*line, '--force_yml', *given.force_yml] if given.force_yml else line
