"""The start-up hook: it waits, it can be turned off, it never breaks an interpreter, and it is in the wheel."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from dynq_basicsr import _autoload


def run_python(code: str, *options: str, mode: str = '', **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, _autoload.VARIABLE: mode, **variables}
    return subprocess.run([sys.executable, *options, '-c', code], capture_output=True, text=True, env=environment)


def our_finders() -> list:
    return [finder for finder in sys.meta_path if type(finder).__module__ == 'dynq_basicsr._autoload']


@pytest.fixture
def bare_meta_path(monkeypatch):
    monkeypatch.setattr(sys, 'meta_path', [finder for finder in sys.meta_path if finder not in our_finders()])


def test_install_is_idempotent(bare_meta_path, monkeypatch):
    monkeypatch.delenv(_autoload.VARIABLE, raising=False)
    _autoload.install()
    _autoload.install()
    assert len(our_finders()) == 1 and sys.meta_path[0] is our_finders()[0]


def test_variable_turns_it_off_but_not_for_the_entry_points(bare_meta_path, monkeypatch):
    monkeypatch.setenv(_autoload.VARIABLE, '0')
    _autoload.install()
    assert not our_finders()
    _autoload.install(force=True)
    assert len(our_finders()) == 1


@pytest.mark.parametrize('mode, expected', [('', '1'), ('0', '0')])
def test_every_interpreter_starts_with_it(tmp_path, mode, expected):
    code = ('import sys; print(sum(type(f).__module__ == "dynq_basicsr._autoload" for f in sys.meta_path),'
            ' {"torch", "basicsr", "torchvision"} & set(sys.modules))')
    done = run_python(code, '-I', mode=mode)
    assert done.stdout.split() == [expected, 'set()'] and not done.stderr


def test_finder_leaves_other_names_alone():
    finder = _autoload.Finder()
    assert finder.find_spec('json') is None
    assert finder.find_spec('dynq_basicsr.quantization.ranges') is None


@pytest.fixture
def poor_basicsr(tmp_path):
    """A package basicsr without registries, over which the plugin stumbles."""
    (tmp_path / 'basicsr').mkdir()
    (tmp_path / 'basicsr' / '__init__.py').write_text('from basicsr.version import number\n')
    (tmp_path / 'basicsr' / 'version.py').write_text('number = 3\n')
    return str(tmp_path)


def test_failing_plugin_costs_one_line(poor_basicsr):
    done = run_python('import basicsr; print(basicsr.number)', PYTHONPATH=poor_basicsr)
    assert done.returncode == 0 and done.stdout.strip() == '3'
    assert done.stderr.startswith('dynq_basicsr: BasicSR goes on without the plugin: ModuleNotFoundError')
    assert len(done.stderr.splitlines()) == 1


def test_failing_plugin_raises_when_strict(poor_basicsr):
    done = run_python('import basicsr; print(basicsr.number)', mode='strict', PYTHONPATH=poor_basicsr)
    assert done.returncode != 0 and 'ModuleNotFoundError' in done.stderr and not done.stdout


def test_hook_of_a_deleted_package_costs_one_line(repository):
    line = (repository / 'dynq_basicsr' / 'dynq_basicsr_autoload.pth').read_text()
    done = run_python(f'{line}\nprint("alive")', '-I', '-S')  # no site-packages, hence no package
    assert done.returncode == 0 and done.stdout == 'alive\n'
    assert len(done.stderr.splitlines()) == 1 and 'hook is off' in done.stderr


def test_hook_files_are_one_line_each(repository):
    for ending in ('pth', 'start'):  # Python reads both line by line
        text = (repository / 'dynq_basicsr' / f'dynq_basicsr_autoload.{ending}').read_text()
        assert len(text.splitlines()) == 1
    module, _, function = text.strip().partition(':')
    assert module == _autoload.__name__ and callable(getattr(_autoload, function))


def test_a_room_may_be_imported_before_basicsr():
    code = ('import dynq_basicsr.data.lr_calibration_dataset as room\n'
            'from basicsr.utils.registry import DATASET_REGISTRY\n'
            'assert DATASET_REGISTRY.get("LRCalibrationDataset") is room.LRCalibrationDataset')
    done = run_python(code, mode='strict')
    assert done.returncode == 0, done.stderr


def test_wheel_holds_hook_weights_and_option_files(repository, tmp_path):
    source = tmp_path / 'source'
    source.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE'):
        shutil.copy(repository / name, source)
    for name in ('dynq_basicsr', 'options'):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--no-build-isolation',
                    '--wheel-dir', str(tmp_path), str(source)], check=True)
    wheel, = tmp_path.glob('*.whl')
    names = set(zipfile.ZipFile(wheel).namelist())
    weights = {f'dynq_basicsr/weights/{path.name}' for path in (source / 'dynq_basicsr' / 'weights').glob('*')
               if path.suffix == '.safetensors'}
    modules = {path.relative_to(source).as_posix() for path in Path(source, 'dynq_basicsr').rglob('*.py')}
    options = {f'dynq_basicsr/_options/{path.name}' for path in (repository / 'options').glob('*.yml')}
    docs = {path.relative_to(source).as_posix() for path in (source / 'dynq_basicsr' / 'docs').rglob('*.*')}
    others = {'dynq_basicsr_autoload.pth', 'dynq_basicsr_autoload.start', 'dynq_basicsr/py.typed'}
    assert others | weights | modules | options | docs <= names
    assert not any(name.startswith(('tests', 'scripts', 'options', 'build')) for name in names)
