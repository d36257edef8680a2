"""Packaging of dynq_basicsr. Imports nothing but setuptools, so that it builds in any environment."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
HOOK_FILES = ('dynq_basicsr_autoload.pth', 'dynq_basicsr_autoload.start')

# What `import dynq_basicsr` and `dynq doctor` need, whatever the package is used for. Missing on purpose, everywhere:
# - basicsr: its setup.py asks pip for a torch of its own choice and for a second OpenCV; `dynq doctor --fix` installs
#   it without its requirements, whose real ones are in the extra `train`;
# - torchvision: only BasicSR imports it, and an unpinned one replaces the torch that the user chose; `--fix` again.
# torch has no upper bound, so an installed one, with or without CUDA, is left alone.
INSTALL_REQUIRES = ['numpy', 'simplejpeg', 'tqdm']

# Four distributions provide `cv2`, and a requirement cannot say "any of them", so OpenCV is in extras only. Where there
# is another one already (BasicSR brings opencv-python), install without extras: `dynq doctor` names what is missing.
OPENCV = 'opencv-python-headless'
PILLOW = 'pillow>=11'  # which turns TIFF as it says, and reads EXIF of PNG and WebP
ONNXRUNTIME = 'onnxruntime>=1.23'  # earlier ones do not unpack weights of 4 bits
TRAIN = [
    'torch>=2.4', 'safetensors', 'pydantic>=2.10', 'pyyaml', 'filelock', 'matplotlib', 'tensorboard',
    # What `import basicsr` 1.4.2 needs beside these. SciPy 2 removes a module that its NIQE imports; distutils comes
    # from setuptools since Python 3.12.
    OPENCV, 'lmdb', PILLOW, 'requests', 'scipy<2', 'setuptools>=77',
]  # fmt: skip
EXTRAS_REQUIRE = {
    'deploy': [OPENCV, PILLOW, ONNXRUNTIME],  # no torch
    'train': TRAIN,
    'export': [*TRAIN, 'onnx', 'onnxscript', ONNXRUNTIME],
    'community': [*TRAIN, 'spandrel>=0.4'],
    'dev': ['pytest', 'pytest-xdist', 'hypothesis', 'jsonschema', 'ruff', 'scikit-image', 'openvino', 'build', 'twine',
            'selenium'],
}


class BuildPy(build_py):
    """`build_py` that also takes what lies outside of the package.

    The start-up hook goes to the root of site-packages, where Python looks for it, and the option files into the wheel.
    """

    def _hook_root(self) -> Path:
        # An editable wheel is assembled in install_lib; build_lib stays empty there.
        return Path(self.get_finalized_command('install').install_lib if self.editable_mode else self.build_lib)

    def _files(self) -> dict[Path, Path]:
        root = self._hook_root()
        files = {ROOT / 'dynq_basicsr' / name: root / name for name in HOOK_FILES}
        if not self.editable_mode:  # which reads them where they are
            folder = root / 'dynq_basicsr' / '_options'
            files |= {path: folder / path.name for path in sorted((ROOT / 'options').glob('*.yml'))}
        return files

    def run(self) -> None:
        """Build the modules, then copy the other files."""
        super().run()
        for source, target in self._files().items():
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target), preserve_mode=0)

    def get_outputs(self, include_bytecode: bool = True) -> list:
        """Return what was built, the other files included, so that uninstalling removes them."""
        return super().get_outputs(include_bytecode) + [str(target) for target in self._files().values()]


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
    author='The dynq_basicsr authors',
    project_urls={'BasicSR, which this plugs into': 'https://github.com/XPixelGroup/BasicSR'},
    license='Apache-2.0',
    license_files=['LICENSE'],
    keywords=['super-resolution', 'quantization', 'image restoration', 'mixed precision', 'BasicSR', 'PyTorch', 'ONNX'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Environment :: Console',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'Operating System :: OS Independent',
        'Programming Language :: Python :: 3 :: Only',
        *(f'Programming Language :: Python :: 3.{minor}' for minor in range(10, 15)),
        'Topic :: Multimedia :: Graphics',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
    packages=find_packages(include=['dynq_basicsr', 'dynq_basicsr.*']),
    package_data={
        'dynq_basicsr': [
            'py.typed', 'weights/*.safetensors', 'weights/*.md', 'numerics/*.c', 'docs/*.md', 'docs/*.json',
            'docs/images/*', 'report/templates/*',
        ],
    },
    entry_points={'console_scripts': ['dynq = dynq_basicsr.cli:main']},
    python_requires='>=3.10',
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    cmdclass={'build_py': BuildPy},
    zip_safe=False,
)  # fmt: skip
