"""``dynq doctor --fix``: bring BasicSR and the torchvision that belongs to the torch that is there, nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import invalidate_caches, metadata
from importlib.util import find_spec
from pathlib import Path

from dynq_basicsr.doctor.examine import torchvision_for
from dynq_basicsr.doctor.parts import BASICSR, quoted
from dynq_basicsr.errors import DynqError

# BasicSR's setup.py reads its version from locals() after exec(), which Python 3.13 ended (PEP 667): "KeyError:
# '__version__'". While it is built, exec() writes into its caller's names as before.
EXEC_SHIM = '''
import builtins
import sys

plain_exec = builtins.exec


def exec_into_caller(code, *scopes, **options):
    caller = sys._getframe(1)
    plain_exec(code, *(scopes or (caller.f_globals, caller.f_locals)), **options)


builtins.exec = exec_into_caller
'''
OFFLINE = ('Connection', 'Temporary failure', 'Name or service', 'ProxyError', 'SSLError', 'timed out')
Run = Callable[..., subprocess.CompletedProcess]


def fix(say: Callable[[str], None] = print, run: Run = subprocess.run) -> None:
    """Install what is missing of setuptools, torchvision and BasicSR into this environment.

    BasicSR's own requirements would fetch a torch of their own choice and a second OpenCV, so it is installed without
    them; the extra ``train`` has what it really needs.

    Args:
        say: Told each command before it runs.
        run: As ``subprocess.run``.

    Raises:
        DynqError: If PyTorch or pip are missing, or pip fails.
    """
    if find_spec('torch') is None:
        raise DynqError('PyTorch: not installed; run `pip install torch` first, as its installation page says for this '
                        'machine (with or without CUDA).')
    wanted = torchvision_for(metadata.version('torch'))
    if wanted and not _version('torchvision').startswith(wanted.rstrip('*')):
        _pip(['--no-deps', f'torchvision=={wanted}'], say, run)
    if find_spec('basicsr') is None:
        if int(_version('setuptools').split('.')[0] or 0) < 77:  # builds it
            _pip(['setuptools>=77'], say, run)
        with tempfile.TemporaryDirectory() as shim:
            Path(shim, 'sitecustomize.py').write_text(EXEC_SHIM, encoding='utf-8')
            _pip(['--no-deps', '--no-build-isolation', f'basicsr=={BASICSR}'], say, run, shim)
    invalidate_caches()


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ''


def _pip(arguments: Sequence[str], say: Callable[[str], None], run: Run, shim: str = '') -> None:
    if find_spec('pip') is None:
        raise DynqError('pip: not in this environment; run `python -m ensurepip` first.')
    command = f'pip install {" ".join(map(quoted, arguments))}'
    say(command)
    environment = dict(os.environ)
    if shim and sys.version_info >= (3, 13):
        environment['PYTHONPATH'] = os.pathsep.join(filter(None, (shim, environment.get('PYTHONPATH'))))
    done = run([sys.executable, '-m', 'pip', 'install', *arguments], env=environment, capture_output=True, text=True,
               errors='replace')  # fmt: skip
    if done.returncode:
        said = f'{done.stdout}\n{done.stderr}'
        if any(word in said for word in OFFLINE):
            raise DynqError(f'`{command}` cannot reach the package index; check the network and pip\'s configuration.')
        lines = [line.strip() for line in said.splitlines() if 'error' in line.lower()] or said.split('\n')[-2:]
        raise DynqError(f'`{command}` failed: {lines[-1][:200]}')
