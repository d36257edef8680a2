"""A project whose commands only leave files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from dynq_basicsr import cli
from dynq_basicsr.reproduce import command

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path) -> Path:
    """A project with the real option files and weights that are none."""
    shutil.copytree(ROOT / 'options', tmp_path / 'options')
    weights = tmp_path / 'datasets/weights/SRResNet/SRResNet_BN_x4.pth'
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b'weights')
    return tmp_path


class FakeCommands:
    """Stands in for ``run_module``: leaves the files that training and testing leave, and remembers the calls.

    Args:
        root: The project's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[tuple[str, str, list[str]]] = []
        self.options: dict[str, dict] = {}
        self.trouble: dict[str, BaseException] = {}  # name of the options -> what happens half way

    def __call__(self, module, option_file, log, on_iteration=lambda iteration: None, flags=()) -> None:
        options = yaml.safe_load(Path(option_file).read_text())
        name, kind = options['name'], module.removeprefix('dynq_basicsr.')
        self.calls.append((kind, name, list(flags)))
        self.options[name] = options
        if kind == 'train':
            experiment = self.root / 'experiments' / name
            for folder in ('models', 'training_states'):
                (experiment / folder).mkdir(parents=True, exist_ok=True)
            on_iteration(options['train']['total_iter'] // 2)
            (experiment / 'training_states' / '20.state').write_bytes(b'')
        if name in self.trouble:
            raise self.trouble[name]
        if kind == 'train':
            (experiment / 'models/net_g_latest.pth').write_bytes(b'network')
            (experiment / 'adabm_timing.json').write_text('{"calibration": 2.0, "weight": 5.5}')
        else:
            (self.root / 'results' / name).mkdir(parents=True, exist_ok=True)
            sets = [one['name'] for one in options['datasets'].values()]
            floating = options['network_g']['type'] != 'QuantizedSR'
            figures = {'psnr': 26.0 if floating else 25.5, 'ssim': 0.78, 'fab': 32.0 if floating else 4.1}
            (self.root / 'results' / name / 'metrics.json').write_text(json.dumps(dict.fromkeys(sets, figures)))

    def taken(self) -> list[tuple[str, str]]:
        """Kind and name of the calls since the last question."""
        calls, self.calls = self.calls, []
        return [call[:2] for call in calls]


@pytest.fixture
def commands(project) -> FakeCommands:
    """Commands that do nothing but leave files, in the project."""
    return FakeCommands(project)


@pytest.fixture
def reproduce(monkeypatch, project, commands) -> Callable[..., int]:
    """Run ``dynq reproduce`` with some words in the project, with those commands; the exit code."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(command, 'run', partial(command.run, execute=commands))
    return lambda *words: cli.main(['reproduce', *words])
