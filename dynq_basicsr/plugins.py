"""Files and modules of users that register architectures and the like of theirs."""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module, invalidate_caches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

from dynq_basicsr.errors import DynqError, shown


def load_plugins(plugins: Iterable[str]) -> list[ModuleType]:
    """Import what registers a user's architectures, policies or data sets; each once, however often it is named.

    Args:
        plugins: Paths of files (``my_archs.py``), relative to the current directory, and dotted names of modules
            (``my_package.module``), which are looked for in the current directory, too. A file finds its neighbours.

    Returns:
        The modules.

    Raises:
        DynqError: If there is no such file or module, or it fails; names the file and the line.
    """
    if isinstance(plugins, str) or not isinstance(plugins, Iterable):
        raise DynqError(f'plugins: must be a list of files and modules, as [my_archs.py], not {shown(plugins)}.')
    return [_load(one) for one in plugins]


def is_file(plugin: str | os.PathLike) -> bool:
    """Whether a plug-in is named by its file, rather than as a module."""
    path = Path(plugin).expanduser()
    return path.suffix == '.py' or len(path.parts) > 1


def _load(plugin: object) -> ModuleType:
    if not isinstance(plugin, str) or not plugin.strip():
        raise DynqError(f'plugins: must be names of files and modules, as my_archs.py, not {shown(plugin)}.')
    if not is_file(plugin):
        return _load_module(plugin)
    path = Path(plugin).expanduser()
    if not path.is_file():
        raise DynqError(f'plugins: no file {shown(plugin)} in {Path.cwd()}; correct the path.')
    return _load_file(plugin, path.resolve())


def _load_module(name: str) -> ModuleType:
    invalidate_caches()
    with _looking_in(Path.cwd()):
        try:
            return import_module(name)
        except Exception as error:  # whatever a user's code raises
            lacking = isinstance(error, ModuleNotFoundError) and f'{name}.'.startswith(f'{error.name}.')
            if lacking or isinstance(error, TypeError | ValueError) and not _place(error):
                raise DynqError(
                    f'plugins: no module {shown(name)} is installed, or lies in {Path.cwd()}; correct the name, or '
                    'give a file, as my_archs.py.'
                ) from error
            raise _failure(name, error) from error


def _load_file(plugin: str, path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:12]
    name = f'dynq_plugin_{path.stem}_{digest}'
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path)
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with _looking_in(path.parent):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, Exception):
            raise _failure(plugin, error) from error
        raise
    return module


@contextmanager
def _looking_in(folder: Path) -> Iterator[None]:
    """Find modules in this folder, too, after all others."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _failure(plugin: str, error: Exception) -> DynqError:
    reason = ' '.join(str(error).split())[:200].rstrip('.')
    reason = f' ({reason})' if reason else ''
    return DynqError(f'plugins: {plugin} fails{_place(error)} with {type(error).__name__}{reason}; mend it.')


def _place(error: Exception) -> str:
    """Where the user's code stands that failed: the last place that is none of the machinery of imports."""
    if isinstance(error, SyntaxError):
        return f' in {error.filename}, line {error.lineno},'
    frames = [one for one in traceback.extract_tb(error.__traceback__) if 'importlib' not in one.filename]
    frames = [one for one in frames if one.filename != __file__]
    return f' in {frames[-1].filename}, line {frames[-1].lineno},' if frames else ''
