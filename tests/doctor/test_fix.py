"""``dynq doctor --fix``: what pip is asked for, and BasicSR's setup.py on Python 3.13."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dynq_basicsr.doctor import fix as module
from dynq_basicsr.doctor.fix import EXEC_SHIM, fix
from dynq_basicsr.errors import DynqError


@pytest.fixture
def machine(monkeypatch):
    """An environment of which one may say what is there; remembers what pip was asked for."""

    class Machine:
        versions = {'torch': '2.13.0+cpu', 'setuptools': '80.1', 'pip': '25'}
        code, said = 0, ''

        def __init__(self) -> None:
            self.calls: list[tuple[list[str], str]] = []

        def find(self, name: str) -> object:
            return self.versions.get(name)

        def version(self, name: str) -> str:
            if name not in self.versions:
                raise module.metadata.PackageNotFoundError(name)
            return self.versions[name]

        def run(self, command, env, **options):
            assert command[:4] == [sys.executable, '-m', 'pip', 'install']
            self.calls.append((command[4:], env.get('PYTHONPATH', '')))
            return subprocess.CompletedProcess(command, self.code, '', self.said)

    machine = Machine()
    monkeypatch.delenv('PYTHONPATH', raising=False)
    monkeypatch.setattr(module, 'find_spec', machine.find)
    monkeypatch.setattr(module.metadata, 'version', machine.version)
    return machine


def asked(machine) -> list[list[str]]:
    fix(lambda line: None, machine.run)
    return [call[0] for call in machine.calls]


BASICSR = ['--no-deps', '--no-build-isolation', 'basicsr==1.4.2']


def test_what_is_missing_is_installed_and_nothing_else(machine):
    assert asked(machine) == [['--no-deps', 'torchvision==0.28.*'], BASICSR]
    machine.calls.clear()
    machine.versions = machine.versions | {'torchvision': '0.28.0', 'basicsr': '1.4.2'}
    assert asked(machine) == []


def test_a_torchvision_of_another_torch_is_replaced(machine):
    machine.versions = machine.versions | {'torchvision': '0.20.1', 'basicsr': '1.4.2'}
    assert asked(machine) == [['--no-deps', 'torchvision==0.28.*']]


@pytest.mark.parametrize('setuptools', ['65.5.0', ''])
def test_what_builds_basicsr_comes_first(machine, setuptools):
    machine.versions = machine.versions | {'torchvision': '0.28.1+cpu', 'setuptools': setuptools}
    assert asked(machine) == [['setuptools>=77'], BASICSR]


@pytest.mark.parametrize('version, shimmed', [((3, 12, 1), False), ((3, 13, 0), True), ((3, 14, 0), True)])
def test_the_shim_is_for_new_pythons(machine, monkeypatch, version, shimmed):
    monkeypatch.setattr(module.sys, 'version_info', version)
    asked(machine)
    assert [bool(path) for _, path in machine.calls] == [False, shimmed]


def test_the_shim_lets_a_function_see_what_exec_defined(tmp_path):
    (tmp_path / 'sitecustomize.py').write_text(EXEC_SHIM)
    (tmp_path / 'setup.py').write_text(
        'def get_version():\n    exec(compile("__version__ = \'1.4.2\'", "x", "exec"))\n'
        '    return locals()["__version__"]\n\n\nprint(get_version())\n'
    )  # as BasicSR's setup.py does it
    done = subprocess.run([sys.executable, str(tmp_path / 'setup.py')], capture_output=True, text=True,
                          env={'PYTHONPATH': str(tmp_path)})  # fmt: skip
    assert done.stdout == '1.4.2\n', done.stderr


@pytest.mark.parametrize('lacking, sentence', [('torch', '^PyTorch: not installed'), ('pip', '^pip: not in this')])
def test_what_it_cannot_do_without(machine, lacking, sentence):
    machine.versions = {name: version for name, version in machine.versions.items() if name != lacking}
    with pytest.raises(DynqError, match=sentence):
        asked(machine)


@pytest.mark.parametrize('said, sentence', [
    ('WARNING\nConnectionError: no route', 'cannot reach the package index'),
    ('Collecting\nERROR: No matching distribution found for torchvision', 'failed: ERROR: No matching distribution'),
])  # fmt: skip
def test_a_failing_pip_ends_in_a_sentence(machine, said, sentence):
    machine.code, machine.said = 1, said
    with pytest.raises(DynqError, match=sentence):
        asked(machine)
