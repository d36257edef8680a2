"""The one command: help that needs nothing, names near a wrong one, exit codes."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from dynq_basicsr import cli
from dynq_basicsr.errors import DynqError

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ('torch', 'cv2', 'basicsr', 'numpy', 'onnxruntime', 'matplotlib', 'yaml', 'pydantic')
# Nothing but the standard library and the package: as on a machine where nothing else is installed.
BARE = (sys.executable, '-I', '-S', '-c', f'import sys; sys.path.insert(0, {str(ROOT)!r}); '
        'from dynq_basicsr.cli import main; sys.exit(main(sys.argv[1:]))')


def leaves(group: cli.Group = cli.DYNQ, words: tuple[str, ...] = ()):
    for name, command in group.commands.items():
        if isinstance(command, cli.Group):
            yield from leaves(command, (*words, name))
        else:
            yield pytest.param((*words, name), command, id=' '.join((*words, name)))


@pytest.mark.parametrize('words, command', list(leaves()))
def test_help_of_every_command(words, command, capsys):
    with pytest.raises(SystemExit) as ending:
        cli.main([*words, '--help'])
    text = capsys.readouterr().out
    assert ending.value.code == 0 and text.startswith(f'usage: dynq {" ".join(words)} ')
    assert ' '.join(text.split()).count(' '.join(command.words[1:].split())) == 1


def test_help_needs_the_standard_library_only():
    words = [list(one.values[0]) for one in leaves()]
    code = (f'import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom dynq_basicsr.cli import main\n'
            f'for words in {words!r}:\n    try:\n        main([*words, "--help"])\n    except SystemExit as end:\n'
            f'        assert end.code == 0, words\nprint(set({HEAVY!r}) & set(sys.modules))')  # fmt: skip
    done = subprocess.run([sys.executable, '-I', '-S', '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == 'set()'


def test_help_is_there_at_once():
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, '-m', 'dynq_basicsr', '--help'], capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
    assert done.returncode == 0 and all(f'\n  {name} ' in done.stdout for name in cli.DYNQ.commands)
    assert min(seconds) < 0.5


def test_importing_the_package_imports_nothing_heavy():
    code = f'import sys, dynq_basicsr; print(set({HEAVY!r}) & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'set()\n'


def test_the_python_interface_is_looked_up_late():
    package = import_module('dynq_basicsr')
    assert {'quantize', 'load'} <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        package.quantise  # noqa: B018


@pytest.mark.parametrize('words, expected', [
    (['upscal'], "dynq upscal: there is no such command. Did you mean 'upscale'?"),
    (['xyz'], 'dynq xyz: there is no such command. There are quantize, upscale,'),
    (['report', 'bitmap'], "dynq report bitmap: there is no such command. Did you mean 'bitmaps'?"),
])  # fmt: skip
def test_unknown_commands(words, expected, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'dynq_basicsr: error: {expected}') and error.count('\n') == 1


@pytest.mark.parametrize('words', [[], ['report']])
def test_a_command_that_is_missing_shows_them_all(words, capsys):
    assert cli.main(words) == 2 and cli.main([*words, '-h']) == 0
    first, second = capsys.readouterr().out.split('usage: ')[1:]
    assert first == second


def test_a_path_instead_of_a_name_means_the_usual_command(tmp_path, monkeypatch, capsys):
    got = []
    monkeypatch.setattr('dynq_basicsr.commands.report_html.run', lambda given: got.append(given.network))
    monkeypatch.chdir(tmp_path)
    for name in ('model', 'crops'):
        Path(name).mkdir()
    assert cli.main(['report', 'model', '-o', 'a.html']) == cli.main(['report', 'html', 'crops', '-o', 'a.html']) == 0
    assert got == [Path('model'), Path('crops')]
    assert cli.main(['report', 'absent', '-o', 'a.html']) == 2 and 'no such command' in capsys.readouterr().err
    with pytest.raises(SystemExit):  # a name is never a path
        cli.main(['report', 'crops', '-o', 'a.html'])


def test_version(capsys):
    assert cli.main(['--version']) == 0
    assert capsys.readouterr().out.startswith('dynq_basicsr 0.')


def test_a_reader_that_has_seen_enough_is_no_error():
    done = subprocess.Popen([sys.executable, '-m', 'dynq_basicsr', 'options', 'list'], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE)  # fmt: skip
    done.stdout.close()
    assert done.wait() == 0 and done.stderr.read() == b''


@pytest.mark.parametrize('outcome, code, said', [
    (None, 0, ''), (1, 1, ''), (DynqError('Mend it.'), 2, 'dynq_basicsr: error: Mend it.\n'),
    (PermissionError(13, 'Permission denied', 'x'), 2, 'dynq_basicsr: error: x: Permission denied'),
    (KeyboardInterrupt(), 130, 'dynq_basicsr: interrupted; go on.\n'),
])  # fmt: skip
def test_exit_codes(monkeypatch, capsys, outcome, code, said):
    class Module:
        INTERRUPTED = 'go on.'

        @staticmethod
        def add_arguments(parser: argparse.ArgumentParser) -> None:
            parser.add_argument('--number', type=int)

        @staticmethod
        def run(given: argparse.Namespace) -> int | None:
            assert given.number == 3
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

    monkeypatch.setattr(cli, 'import_module', lambda name: Module)
    assert cli.main(['doctor', '--number', '3']) == code
    assert capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize('words, missing', [
    (['train', '-opt', 'x.yml'], 'and 14 more'), (['test', '-opt', 'x.yml'], '[train]"`, then `dynq doctor --fix`'),
    (['upscale', 'x.png', '--model', 'm', '--output', 'o'], 'OpenCV'),
    (['report', 'crops', '--gt', 'a', '--results', 'a=b', '--out', 'c'], 'dynq_basicsr[train]'),
    (['data', 'bicubic', '--hr', 'a', '--out', 'b'], 'OpenCV'), (['options', 'explain', 'train.lr'], 'pydantic'),
])  # fmt: skip
def test_what_is_not_installed_costs_one_line(words, missing):
    done = subprocess.run([*BARE, *words], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count('\n') == 1
    assert missing in done.stderr and 'not installed; run `pip install' in done.stderr
