"""The one command, ``dynq``: a table of subcommands, each a module that is imported when its name is given.

Such a module has ``add_arguments(parser)`` and ``run(given)``, which returns an exit code or nothing, and perhaps
``INTERRUPTED``, what to say when the user ends it. It imports what is heavy (torch, OpenCV, BasicSR) in ``run``
only, so that help is there at once and wherever the package is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from dynq_basicsr import __version__
from dynq_basicsr.command import fail, run_command
from dynq_basicsr.errors import DynqError, nearest

GENERIC = 'the same command begins again.'


@dataclass(frozen=True)
class Command:
    """A subcommand.

    Attributes:
        words: What it does, a clause.
        module: Its module, relative to the package.
    """

    words: str
    module: str


@dataclass(frozen=True)
class Group:
    """A subcommand that has subcommands.

    Attributes:
        words: What they do, a clause.
        commands: Name -> subcommand.
        usual: The one that is meant where a file or folder stands instead of a name.
    """

    words: str
    commands: Mapping[str, Command | Group]
    usual: str = ''


DYNQ = Group(
    'content-adaptive bit-widths for super-resolution networks',
    {
        'quantize': Command('a checkpoint and a folder of pictures become a quantized network', 'commands.quantize'),
        'upscale': Command('upscale images with a quantized network that was exported', 'commands.upscale'),
        'export': Command('freeze a quantized checkpoint to a folder of integer graphs', 'commands.export'),
        'train': Command('calibrate or train by an option file, with BasicSR', 'commands.train'),
        'test': Command('evaluate by an option file, with BasicSR', 'commands.test'),
        'report': Group(
            'look at networks and results',
            {
                'html': Command('everything about a quantized network on one page', 'commands.report_html'),
                'bitmaps': Command('draw the bits that one LR image uses', 'commands.report_bitmaps'),
                'crops': Command('draw crops of results beside the ground truth', 'commands.report_crops'),
                'entropies': Command('draw the entropies of patches, and their bits', 'commands.report_entropies'),
                'tables': Command('print the figures of test runs as one table', 'commands.report_tables'),
            },
            usual='html',
        ),
        'reproduce': Group(
            'make the tables of a paper, our figures beside the paper\'s',
            {
                'adabm': Command('AdaBM (Hong and Lee, CVPR 2024)', 'reproduce.adabm'),
                'granular': Command('Granular-DQ (Wang et al., AAAI 2025)', 'reproduce.granular'),
            },
        ),
        'data': Group(
            'prepare data sets',
            {
                'bicubic': Command('LR images from HR photographs, as MATLAB makes them', 'commands.data_bicubic'),
                'test2k4k': Command('the benchmarks Test2K and Test4K from DIV8K', 'commands.data_test2k4k'),
            },
        ),
        'options': Group(
            'option files and what their keys mean',
            {
                'list': Command('the option files that ship with the package', 'commands.options_list'),
                'copy': Command('copy one of them, to be edited', 'commands.options_copy'),
                'explain': Command('what a key means, its range and its default', 'commands.options_explain'),
            },
        ),
        'doctor': Command('say what is installed, what is missing, and what brings it', 'commands.doctor'),
    },
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Args:
        arguments: Without the program's name; None: those of this process.

    Returns:
        The exit code: 0; 1 where a part failed, such as an image; 2 after an error that the user can mend; 130 when
        interrupted.
    """
    try:
        code = _dispatch(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does; nothing is to be flushed at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(given: list[str]) -> int:
    if given == ['--version']:
        print(f'dynq_basicsr {__version__}')
        return 0
    command, name = DYNQ, 'dynq'
    while isinstance(command, Group):
        if not given or given[0] in ('-h', '--help'):
            print(_overview(command, name))
            return 0 if given else 2
        word = given.pop(0)
        if word not in command.commands and command.usual and os.path.exists(word):
            given.insert(0, word)
            word = command.usual
        if word not in command.commands:
            near = nearest(word, command.commands) or f' There are {", ".join(command.commands)}.'
            return fail(DynqError(f'{name} {word}: there is no such command.{near}'))
        command, name = command.commands[word], f'{name} {word}'
    return _run(command, name, given)


def _run(command: Command, name: str, arguments: list[str]) -> int:
    module = import_module(f'dynq_basicsr.{command.module}')
    parser = argparse.ArgumentParser(prog=name, description=f'{command.words[0].upper()}{command.words[1:]}.')
    module.add_arguments(parser)
    given = parser.parse_args(arguments)
    try:
        return run_command(lambda: module.run(given))
    except KeyboardInterrupt:
        print(f'dynq_basicsr: interrupted; {getattr(module, "INTERRUPTED", GENERIC)}', file=sys.stderr)
        return 130


def _overview(group: Group, name: str) -> str:
    width = max(map(len, group.commands))
    lines = [f'  {key:{width}}  {command.words}' for key, command in group.commands.items()]
    usage = f'usage: {name} COMMAND ...     ({name} COMMAND --help tells its options)'
    if group.usual:
        usage += f'\n       {name} PATH ...        (the same as {name} {group.usual} PATH ...)'
    return '\n'.join([usage, '', f'{group.words[0].upper()}{group.words[1:]}.', '', *lines])
