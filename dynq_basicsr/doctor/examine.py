"""What ``dynq doctor`` finds: versions, what is missing, for which use, and the command that brings it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path

from dynq_basicsr import _autoload
from dynq_basicsr.doctor.parts import BASICSR, FIX, PARTS, USES, Part, cure, missing

OPENCVS = tuple(f'opencv{contrib}-python{headless}' for contrib in ('', '-contrib') for headless in ('', '-headless'))
# What is worth importing, since being there is not enough: shared libraries are often missing, or of another build.
BRITTLE = ('cv2', 'onnxruntime', 'torch', 'torchvision', 'basicsr')


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: Of the part.
        state: Its version, or what is known of it; empty: missing.
        uses: What needs it, of ``parts.USES``.
        trouble: What is wrong with it, a clause; empty: nothing.
        cure: The command that mends it; empty: none is needed or known.
    """

    name: str
    state: str
    uses: tuple[str, ...] = ()
    trouble: str = ''
    cure: str = ''


def examine() -> list[Finding]:
    """All findings, Python first."""
    return [_python(), *map(_part, PARTS), *_opencvs(), *_torchvision(), _compiler(), *_gpu(), _hook()]


def ready() -> dict[str, str]:
    """Use -> the commands that complete it; empty where it is complete."""
    return {use: cure(missing(modules), use) for use, modules in USES.items()}


def _python() -> Finding:
    old = '' if sys.version_info >= (3, 10) else 'Python 3.10 or newer is needed'
    return Finding('Python', f'{platform.python_version()} on {platform.system()}', tuple(USES), old)


def _part(part: Part) -> Finding:
    uses = tuple(use for use, modules in USES.items() if part.module in modules)
    if not part.found:
        return Finding(part.name, '', uses, cure=cure([part]))
    if part.unsuited:
        return Finding(part.name, part.unsuited, uses, f'{part.requirement} is needed', cure([part]))
    # BasicSR without what it imports would only say what the other lines say.
    tried = part.module in BRITTLE and not (part.module == 'basicsr' and missing(USES['quantize and train']))
    trouble = _cannot_be_imported(part.module) if tried else ''
    version = _version(part)
    if part.module == 'basicsr' and not trouble and not version.startswith(BASICSR):
        trouble = f'tried with {BASICSR} only'
    return Finding(part.name, version, uses, trouble)


def _version(part: Part) -> str:
    names = OPENCVS if part.module == 'cv2' else (re.split('[<>=]', part.requirement or part.module)[0],)
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return 'unknown version'  # on the path without being installed


def _cannot_be_imported(module: str) -> str:
    try:
        import_module(module)
    except Exception as error:  # whatever the package raises, the report goes on
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        return f'cannot be imported ({reason[:120]})'
    return ''


def _opencvs() -> Iterator[Finding]:
    here = [name for name in OPENCVS if _installed(name)]
    if len(here) > 1:
        remedy = f'pip uninstall {" ".join(here)}, then pip install {here[-1]}'
        yield Finding('OpenCV twice', ', '.join(here), (), 'they overwrite each other', remedy)


def _torchvision() -> Iterator[Finding]:
    if _installed('torch') and _installed('torchvision'):
        torch, torchvision = metadata.version('torch'), metadata.version('torchvision')
        wanted = torchvision_for(torch)
        if wanted and not torchvision.startswith(wanted.rstrip('*')):
            yield Finding('torchvision', torchvision, (), f'PyTorch {torch} goes with torchvision {wanted}', FIX)


def torchvision_for(torch: str) -> str:
    """The torchvision that belongs to a torch, as pip writes it; empty where the rule is not known.

    Args:
        torch: Its version, as ``2.13.0+cpu``: that of torch 2.N is 0.(N+15).
    """
    found = re.match(r'2\.(\d+)', torch)
    return f'0.{int(found[1]) + 15}.*' if found else ''


def _installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _compiler() -> Finding:
    names = [os.environ['CC'].split()[0]] if os.environ.get('CC', '').split() else ['cc', 'gcc', 'clang']
    found = next(filter(None, map(shutil.which, names)), None)
    return Finding('C compiler', found or 'none: PyTorch\'s own operations are taken, which are slower')


def _gpu() -> Iterator[Finding]:
    torch = sys.modules.get('torch')
    if torch is None:
        return
    if torch.cuda.is_available():
        state = ', '.join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
    elif getattr(torch.backends, 'mps', None) and torch.backends.mps.is_available():
        state = 'MPS'
    else:
        state = f'none that PyTorch {torch.__version__} can use; all runs on the CPU'
    yield Finding('GPU', state)


def _hook() -> Finding:
    value, name = os.environ.get(_autoload.VARIABLE), 'start-up hook'
    if value == '0':
        return Finding(name, f'switched off by {_autoload.VARIABLE}=0')
    file = Path(sysconfig.get_path('purelib')) / 'dynq_basicsr_autoload.pth'
    if not file.is_file():
        trouble = f'{file.name} is not in {file.parent}, so BasicSR\'s own commands do not see this package'
        return Finding(name, 'not installed', (), trouble, 'pip install --force-reinstall --no-deps dynq_basicsr')
    return Finding(name, 'on' + (f', {value}' if value else ''))
