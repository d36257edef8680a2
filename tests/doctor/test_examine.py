"""What the doctor finds, and what it says of it."""

from __future__ import annotations

import json
from importlib import metadata

import pytest

from dynq_basicsr import cli
from dynq_basicsr.doctor import examine, parts
from dynq_basicsr.doctor.parts import PARTS, USES, Part, cure, missing
from dynq_basicsr.doctor.require import require, require_basicsr
from dynq_basicsr.errors import DynqError


@pytest.fixture
def without(monkeypatch):
    """Make modules absent."""

    def hide(*modules: str) -> None:
        there = parts.find_spec
        monkeypatch.setattr(parts, 'find_spec', lambda name: None if name in modules else there(name))

    return hide


@pytest.fixture
def run(monkeypatch, capsys):
    """``dynq doctor --json``, nothing imported; the exit code and the report."""
    monkeypatch.setattr(examine, 'BRITTLE', ())

    def call() -> tuple[int, dict]:
        code = cli.main(['doctor', '--json'])
        return code, json.loads(capsys.readouterr().out)

    return call


def test_requirements_are_those_of_the_package(repository):
    """The table and setup.py say the same."""
    extras: dict[str, set[str]] = {}
    setup = (repository / 'setup.py').read_text()
    names = {'OPENCV': 'opencv-python-headless'}
    text = setup[setup.index("OPENCV = '") : setup.index('\n\n\nclass BuildPy')]
    exec(text, names)  # noqa: S102 - our own file
    core = setup.split('INSTALL_REQUIRES = ')[1].split('\n')[0]
    for part in PARTS:
        for extra in part.extras:
            extras.setdefault(extra, set()).add(part.requirement)
    found = {extra: set(wanted) for extra, wanted in names['EXTRAS_REQUIRE'].items() if extra != 'dev'}
    train = found['train']
    assert train == extras['train'] and found['deploy'] == extras['deploy']
    assert found['export'] == train | extras['export'] and found['community'] == train | extras['community']
    assert all(f"'{part.requirement}'" in core for part in PARTS if part.module in parts.CORE)


def test_a_whole_environment(run):
    code, report = run()
    assert code == 0 and report['uses'] == dict.fromkeys(USES, '')
    found = {one['name']: one for one in report['findings']}
    assert found['PyTorch']['state'] == metadata.version('torch')
    assert found['BasicSR'] == {'name': 'BasicSR', 'state': '1.4.2', 'trouble': '', 'cure': '',
                                'uses': ['quantize and train', 'export', 'community']}  # fmt: skip
    assert {'Python', 'C compiler', 'start-up hook', *(part.name for part in PARTS)} <= found.keys()


def test_what_is_missing_and_what_brings_it(run, without):
    without('torch', 'basicsr', 'torchvision', 'pydantic', 'onnx')
    code, report = run()
    assert code == 0 and report['uses'] == {
        'upscale': '',
        'quantize and train': 'pip install "torch>=2.4" "pydantic>=2.10", then dynq doctor --fix',
        'export': 'pip install "torch>=2.4" "pydantic>=2.10" onnx, then dynq doctor --fix',
        'community': 'pip install "torch>=2.4" "pydantic>=2.10", then dynq doctor --fix',
    }
    torch = next(one for one in report['findings'] if one['name'] == 'PyTorch')
    assert torch['state'] == '' and torch['cure'] == 'pip install "torch>=2.4"'
    without('tqdm')
    assert run()[0] == 1  # nothing is ready


def test_report_for_people(monkeypatch, without, capsys):
    monkeypatch.setattr(examine, 'BRITTLE', ())
    without('spandrel', 'openvino')
    assert cli.main(['doctor']) == 0
    lines = [' '.join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert 'spandrel missing, needed for: community' in lines and 'OpenVINO not here (optional)' in lines
    assert 'upscale ready' in lines and 'community run: pip install "spandrel>=0.4"' in lines


@pytest.mark.parametrize('requirement, installed, suits', [
    ('torch>=2.4', '2.3.1', False), ('torch>=2.4', '2.4.0+cu121', True), ('torch>=2.4', '2.13.0', True),
    ('torch>=2.4', '2.4', True), ('torch>=2.4', '1.10.0rc1', False), ('scipy<2', '1.18.1', True),
    ('scipy<2', '2.0.0', False), ('torch', '0.1', True),
])  # fmt: skip
def test_a_package_that_is_too_old_or_too_new(monkeypatch, requirement, installed, suits):
    monkeypatch.setattr(parts, 'version', lambda name: installed)
    part = Part('Torch', 'torch', requirement)
    assert part.found and part.here is suits
    if not suits:
        found = examine._part(part)
        assert found.state == installed and found.trouble == f'{requirement} is needed'
        assert found.cure == f'pip install "{requirement}"'
        monkeypatch.setitem(parts.BY_MODULE, 'torch', part)
        monkeypatch.setattr(parts, 'PARTS', (part,))
        with pytest.raises(DynqError, match=f'Torch: another version is needed; run `pip install "{requirement}"`'):
            require('torch')


def test_a_package_that_cannot_be_imported(tmp_path, monkeypatch):
    (tmp_path / 'broken.py').write_text('raise OSError("libGL.so.1: cannot open\\n shared object")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(examine, 'BRITTLE', ('broken',))
    found = examine._part(Part('Broken', 'broken', 'broken'))
    assert found.trouble == 'cannot be imported (OSError: libGL.so.1: cannot open shared object)'
    assert found.state == 'unknown version'


def test_two_opencvs_and_a_foreign_torchvision(monkeypatch):
    versions = {'opencv-python': '4.1', 'opencv-python-headless': '5.0'}
    versions |= {'torch': '2.5.1+cu121', 'torchvision': '0.28.0'}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(examine.metadata, 'version', version)
    twice, = examine._opencvs()
    assert 'pip uninstall opencv-python opencv-python-headless, then pip install' in twice.cure
    foreign, = examine._torchvision()
    assert foreign.trouble == 'PyTorch 2.5.1+cu121 goes with torchvision 0.20.*' and foreign.cure == parts.FIX
    versions |= {'torchvision': '0.20.1'}
    del versions['opencv-python']
    assert not [*examine._opencvs(), *examine._torchvision()]


@pytest.mark.parametrize('value, state', [('0', 'switched off by DYNQ_BASICSR_AUTOLOAD=0'), ('strict', 'on, strict')])
def test_hook(monkeypatch, value, state):
    monkeypatch.setenv('DYNQ_BASICSR_AUTOLOAD', value)
    assert examine._hook().state == state


def test_hook_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(examine.sysconfig, 'get_path', lambda name: str(tmp_path))
    assert examine._hook().state == 'not installed' and 'do not see this package' in examine._hook().trouble


def test_commands_name_what_they_lack(without):
    require('onnx', 'onnxruntime')
    require_basicsr()
    without('onnx', 'basicsr', 'cv2')
    with pytest.raises(DynqError, match='^ONNX: not installed; run `pip install onnx`.$'):
        require('onnx', 'onnxruntime')
    expected = '^OpenCV, BasicSR: not installed; run `pip install opencv-python-headless`, then `dynq doctor --fix`.$'
    with pytest.raises(DynqError, match=expected):
        require_basicsr()
    assert [part.module for part in missing(('onnx', 'numpy'))] == ['onnx']
    assert cure([]) == ''
    assert cure(list(PARTS), 'upscale') == 'pip install "dynq_basicsr[deploy]", then dynq doctor --fix'


def test_an_extra_is_named_only_where_it_brings_no_second_opencv(monkeypatch):
    parts_but_cv2 = [part for part in PARTS if part.module != 'cv2']
    assert cure(parts_but_cv2, 'export') == 'pip install "dynq_basicsr[export]", then dynq doctor --fix'

    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(parts, 'version', version)
    assert 'dynq_basicsr[' not in cure(parts_but_cv2, 'export') and 'opencv' not in cure(parts_but_cv2, 'export')


def test_names_of_what_is_missing_stay_within_a_line(without):
    without(*(part.module for part in PARTS))
    with pytest.raises(DynqError, match='^NumPy, tqdm, simplejpeg, OpenCV and 14 more: not installed; run `pip'):
        require_basicsr()
