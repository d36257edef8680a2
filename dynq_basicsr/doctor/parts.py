"""What the package can use of other packages: one table, for messages and for ``dynq doctor``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

BASICSR = '1.4.2'  # the release that the repairs in compat/ were written for
FIX = 'dynq doctor --fix'


@dataclass(frozen=True)
class Part:
    """A package that is not ours.

    Attributes:
        name: As people know it.
        module: As it is imported.
        requirement: As pip is asked for it; empty: ``dynq doctor --fix`` brings it.
        extras: Of ours, that bring it.
    """

    name: str
    module: str
    requirement: str
    extras: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether there is one, of whatever version; nothing is imported."""
        return find_spec(self.module) is not None

    @property
    def here(self) -> bool:
        """Whether there is one that can be used; nothing is imported."""
        return self.found and not self.unsuited

    @property
    def unsuited(self) -> str:
        """The version that is installed, where the requirement excludes it; empty: it does not, or nobody knows."""
        limit = re.fullmatch(r'([\w-]+)(>=|<)([\d.]+)', self.requirement)
        try:
            installed = version(limit[1]) if limit else ''
        except PackageNotFoundError:  # on the path without being installed
            return ''
        suits = not limit or (_numbers(installed) >= _numbers(limit[3])) == (limit[2] == '>=')
        return '' if suits else installed


def _numbers(release: str) -> list[int]:
    """A version's numbers: ``2.13.0+cpu`` is 2, 13, 0."""
    return [int(one) for one in re.match(r'[\d.]*\d', release)[0].split('.')]


PARTS = (
    Part('NumPy', 'numpy', 'numpy'),
    Part('tqdm', 'tqdm', 'tqdm'),
    Part('simplejpeg', 'simplejpeg', 'simplejpeg'),
    Part('OpenCV', 'cv2', 'opencv-python-headless', ('deploy', 'train')),
    Part('ONNX Runtime', 'onnxruntime', 'onnxruntime>=1.23', ('deploy', 'export')),
    Part('OpenVINO', 'openvino', 'openvino'),
    Part('PyTorch', 'torch', 'torch>=2.4', ('train',)),
    Part('torchvision', 'torchvision', ''),
    Part('BasicSR', 'basicsr', ''),
    Part('safetensors', 'safetensors', 'safetensors', ('train',)),
    Part('pydantic', 'pydantic', 'pydantic>=2.10', ('train',)),
    Part('PyYAML', 'yaml', 'pyyaml', ('train',)),
    Part('filelock', 'filelock', 'filelock', ('train',)),
    Part('Matplotlib', 'matplotlib', 'matplotlib', ('train',)),
    Part('TensorBoard', 'tensorboard', 'tensorboard', ('train',)),
    Part('LMDB', 'lmdb', 'lmdb', ('train',)),
    Part('SciPy', 'scipy', 'scipy<2', ('train',)),  # 2 removes a module that BasicSR's NIQE imports
    Part('Requests', 'requests', 'requests', ('train',)),
    Part('Pillow', 'PIL', 'pillow>=11', ('deploy', 'train')),
    # Since Python 3.12 the distutils that BasicSR imports come from setuptools.
    Part('setuptools', 'setuptools', 'setuptools>=77', ('train',)),
    Part('ONNX', 'onnx', 'onnx', ('export',)),
    Part('ONNX Script', 'onnxscript', 'onnxscript', ('export',)),
    Part('spandrel', 'spandrel', 'spandrel>=0.4', ('community',)),
)
BY_MODULE = {part.module: part for part in PARTS}

CORE = ('numpy', 'simplejpeg', 'tqdm')
_TRAIN = (*CORE, 'torchvision', 'basicsr', *(part.module for part in PARTS if 'train' in part.extras))
# What the package is used for -> the modules that it needs.
USES = {
    'upscale': (*CORE, 'cv2', 'PIL', 'onnxruntime'),
    'quantize and train': _TRAIN,
    'export': (*_TRAIN, 'onnx', 'onnxscript', 'onnxruntime'),
    'community': (*_TRAIN, 'spandrel'),
}
EXTRAS = dict(zip(USES, ('deploy', 'train', 'export', 'community'), strict=True))
MANY = 4  # packages, above which a command names an extra instead


def missing(modules: tuple[str, ...]) -> list[Part]:
    """Those of some modules of the table that are not installed, or too old or new, in the table's order."""
    return [part for part in PARTS if part.module in modules and not part.here]


def cure(parts: list[Part], use: str = '') -> str:
    """The commands that bring parts which are missing, joined by ``, then``; empty where none is.

    An extra of ours is named only where it brings no second OpenCV beside another one, as that of BasicSR.

    Args:
        parts: See ``missing``.
        use: What they are missing for, of ``USES``.
    """
    plain = [quoted(part.requirement) for part in parts if part.requirement]
    if use and len(plain) > MANY and not has_other_opencv():
        plain = [f'"dynq_basicsr[{EXTRAS[use]}]"']
    commands = [f'pip install {" ".join(plain)}'] if plain else []
    return ', then '.join(commands + [FIX] * any(not part.requirement for part in parts))


def has_other_opencv() -> bool:
    """Whether ``cv2`` is here and not from the distribution that the extras name."""
    try:
        version(BY_MODULE['cv2'].requirement)
    except PackageNotFoundError:
        return BY_MODULE['cv2'].found
    return False


def quoted(requirement: str) -> str:
    """A requirement as shells of all systems take it."""
    return f'"{requirement}"' if set(requirement) & set('<>[]*') else requirement
