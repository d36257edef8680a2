"""Scripts are files, not modules of the package: load them by path."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load_script() -> Callable[[str], ModuleType]:
    """Return a function that imports ``scripts/<name>.py`` without running its command line."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f'dynq_script_{name}', ROOT / 'scripts' / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def benchmarks() -> Path:
    """The benchmark images beside the checkout; skips the test where they are absent."""
    folder = ROOT.parent / 'shared' / 'data' / 'benchmarks'
    if not folder.is_dir():
        pytest.skip('../shared/data/benchmarks is absent')
    return folder


@pytest.fixture
def import_script(monkeypatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a script as its neighbours do, by its plain name."""
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    return importlib.import_module
