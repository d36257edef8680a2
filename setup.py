"""Packaging of dynq_basicsr. Imports nothing but setuptools, so that it builds in any environment."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
HOOK_FILES = ('dynq_basicsr_autoload.pth', 'dynq_basicsr_autoload.start')

# What the package itself imports. Three names are missing on purpose:
# - basicsr: its setup.py asks pip for a torch of its own, so naming it here would make `pip install .` fetch several
#   gigabytes of CUDA packages into a build environment even where torch is installed, and pull opencv-python over an
#   opencv-python-headless that is already there. It is the host of this plugin: README says how it is installed first.
# - torchvision: only BasicSR imports it, and an unpinned torchvision upgrades the torch that the user chose.
# - OpenCV: four distributions provide `cv2`, and a requirement cannot say "any of them"; BasicSR brings one.
# torch has no upper bound, so an installed one, with or without CUDA, is left alone.
INSTALL_REQUIRES = ['torch>=2.4', 'numpy', 'pyyaml', 'safetensors', 'tqdm', 'matplotlib']

EXTRAS_REQUIRE = {
    # What `import basicsr` 1.4.2 really needs beside torch and torchvision. Its own list adds TensorBoard nightlies,
    # yapf and more that nothing here uses, so the scripts install BasicSR with --no-deps and take this extra.
    # SciPy 2 removes a module that BasicSR's NIQE imports; distutils comes from setuptools since Python 3.12.
    'basicsr': ['lmdb', 'opencv-python-headless', 'pillow', 'requests', 'scipy<2', 'setuptools>=77'],
    # Community checkpoints; what it needs beside its own code is there already, and it asks for no version of torch.
    'community': ['spandrel>=0.4'],
    'deploy': ['onnx', 'onnxruntime'],
    'dev': ['pytest', 'hypothesis', 'ruff', 'scikit-image', 'build'],
}


class BuildPyWithHook(build_py):
    """`build_py` that also lays the start-up hook at the root of site-packages, where Python looks for it."""

    def _hook_root(self) -> Path:
        # An editable wheel is assembled in install_lib; build_lib stays empty there.
        return Path(self.get_finalized_command('install').install_lib if self.editable_mode else self.build_lib)

    def run(self) -> None:
        """Build the modules, then copy the hook files beside the package."""
        super().run()
        root = self._hook_root()
        self.mkpath(str(root))
        for name in HOOK_FILES:
            self.copy_file(str(ROOT / 'dynq_basicsr' / name), str(root / name), preserve_mode=0)

    def get_outputs(self, include_bytecode: bool = True) -> list:
        """Return what was built, hook files included, so that uninstalling removes them."""
        return super().get_outputs(include_bytecode) + [str(self._hook_root() / name) for name in HOOK_FILES]


def read_version() -> str:
    """Return the version written in the package, without importing it."""
    text = (ROOT / 'dynq_basicsr' / '__init__.py').read_text(encoding='utf-8')
    return re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE).group(1)


def read_readme() -> str:
    """Return the README, or nothing where only the package was copied."""
    readme = ROOT / 'README.md'
    return readme.read_text(encoding='utf-8') if readme.is_file() else ''


setup(
    name='dynq_basicsr',
    version=read_version(),
    description='Content-adaptive bit-widths for super-resolution networks, as a BasicSR plugin',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['dynq_basicsr', 'dynq_basicsr.*']),
    package_data={'dynq_basicsr': ['weights/*.safetensors', 'numerics/*.c', 'docs/*.md']},
    python_requires='>=3.10',
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    cmdclass={'build_py': BuildPyWithHook},
)
