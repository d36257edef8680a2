"""Repairs of how BasicSR reads its option file and its command line."""

from __future__ import annotations

import argparse
import functools
import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import yaml
from basicsr.utils import options

from dynq_basicsr.command import say_errors_in_one_line
from dynq_basicsr.compat.option_skeleton import check_skeleton, leave_out_nulls
from dynq_basicsr.compat.registries import run_is_ours
from dynq_basicsr.compat.safe_yaml import OptionDumper, OptionLoader, parse_value
from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.plugins import load_plugins

# Called with the finished options before BasicSR makes or renames any folder; the plugin adds its own. What one returns
# is kept until the pipeline ends, as the lock on its folder is.
CHECKS: list[Callable[[dict], object]] = []


def option_file_runs_python_code() -> None:
    """Read option files as plain data.

    Symptom: an option file with a tag such as ``!!python/object/apply:os.system`` runs that command; ``1e-4`` comes
        out as text and fails much later in the optimizer.
    Cause: BasicSR reads option files with PyYAML's unsafe loader; YAML 1.1 wants ``1.0e-4``.
    Cure: a safe loader that refuses such tags with one sentence and knows numbers without a dot.
    """
    options.ordered_yaml = lambda: (OptionLoader, OptionDumper)


def force_yml_runs_python_code() -> None:
    """Read the command line as plain data, too, and check the option file's skeleton.

    Symptom: ``--force_yml a=[code]`` runs the code; ``train:lr=1e-3`` or ``-1`` arrives as text; a value with ``=``
        is a ValueError and a new section a KeyError. ``--local-rank``, as torch's launcher has written it since 2.0,
        is an unrecognized argument. A missing section is a bare KeyError, an absent file a traceback.
    Cause: BasicSR feeds the values to ``eval`` and the keys to ``exec``, and knows only ``--local_rank``.
    Cure: take these arguments off the command line before BasicSR sees it, and edit the options as they are read.
    """
    if getattr(options.parse_options, '__wrapped__', None) is None:
        options.parse_options = _careful(options.parse_options)
        for name in ('basicsr.train', 'basicsr.test'):
            sys.modules[name].parse_options = options.parse_options


def _careful(original: Callable) -> Callable:
    @functools.wraps(original)
    def parse_options(root_path: str, is_train: bool = True) -> tuple[dict, argparse.Namespace]:
        say_errors_in_one_line()
        _repair_script()
        own, rest = _split_command_line(sys.argv[1:])
        repeated: list[DynqError] = []

        class EditingLoader(OptionLoader):
            def repeated(self, problem: yaml.MarkedYAMLError) -> None:
                repeated.append(self.explained(problem))

            def get_single_data(self) -> Any:
                opt = super().get_single_data()
                if isinstance(opt, dict):
                    for entry in own.force_yml:
                        override(opt, entry)
                    leave_out_nulls(opt)
                check_skeleton(self.file, opt, is_train)
                return opt

        before = sys.argv, options.ordered_yaml
        sys.argv = [sys.argv[0], *rest, '--local_rank', str(own.local_rank)]
        options.ordered_yaml = lambda: (EditingLoader, OptionDumper)
        try:
            opt, args = original(root_path, is_train)
        except OSError as error:
            if error.filename in rest:
                raise DynqError(f'Option file {error.filename!r} cannot be read: {error.strerror}.') from error
            raise
        finally:
            sys.argv, options.ordered_yaml = before
        load_plugins(opt.get('plugins') or ())
        if repeated and run_is_ours(opt):  # others' option files may be as careless as BasicSR lets them
            raise repeated[0]
        opt.held = [check(opt) for check in CHECKS]  # an attribute, which lives as long as the pipeline's options
        args.force_yml = own.force_yml or None
        return opt, args

    return parse_options


def _repair_script() -> None:
    # `python basicsr/train.py` runs a second copy of that module, which defines its own functions.
    script, repaired = sys.modules['__main__'], sys.modules['basicsr.train']
    if hasattr(script, 'train_pipeline'):
        for name in ('load_resume_state', 'create_train_val_dataloader', 'init_tb_loggers'):
            setattr(script, name, getattr(repaired, name))


def _split_command_line(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument('--force_yml', nargs='+', action='extend', default=[])
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)
    return parser.parse_known_args(arguments)


def override(opt: dict, entry: str) -> None:
    """Set one option, as in ``--force_yml train:optim_g:lr=1e-3``.

    Args:
        opt: The options, changed in place; sections that do not exist yet are made.
        entry: Keys joined by colons, ``=``, and a YAML value.

    Raises:
        DynqError: If there is no ``=``, the value is not plain YAML, or a key leads through something that is not a
            section.
    """
    keys, equals, value = entry.partition('=')
    path = [key.strip() for key in keys.split(':')]
    if not equals or not all(path):
        raise DynqError(f'--force_yml {entry!r}: write it as section:key=value.')
    section = opt
    for depth, key in enumerate(path[:-1], start=1):
        if section.get(key) is None:
            section[key] = OrderedDict()
        section = section[key]
        if not isinstance(section, dict):
            raise DynqError(f'--force_yml {entry!r}: {":".join(path[:depth])} is {shown(section)}, not a section.')
    try:
        section[path[-1]] = parse_value(value.strip())
    except DynqError as error:
        raise DynqError(f'--force_yml {entry!r}: {error}') from error
