"""Who imports whom: no circles, not even by imports within functions, and no room that reaches above itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from pathlib import Path

import pytest

from dynq_basicsr._autoload import _is_on_basicsr

PACKAGE = 'dynq_basicsr'
ROOT = Path(__file__).resolve().parents[1]
# Room -> what none of its modules may reach, neither by an import of its own nor through what it imports.
UPPER = ('models', 'training', 'archs', 'report', 'export', 'runtime', 'workflow', 'plugin')
MAY_NOT_REACH = {
    'numerics': UPPER,
    'quantization': UPPER,
    'policies': UPPER,
    'training': ('models', 'export', 'runtime', 'workflow', 'plugin'),
    'models': ('export', 'runtime', 'workflow', 'plugin'),
    'imaging': (*UPPER, 'quantization', 'policies', 'numerics', 'backbones', 'data', 'config', 'compat'),
    'runtime': ('models', 'training', 'archs', 'report', 'export', 'workflow', 'plugin', 'quantization', 'policies',
                'numerics', 'backbones', 'data', 'config', 'compat'),
}


def nodes(tree: ast.AST, within_functions: bool) -> Iterator[ast.AST]:
    """All nodes at any depth, except what stands under ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and not within_functions:
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).rpartition('.')[2] == 'TYPE_CHECKING':
            for other in node.orelse:
                yield other
                yield from nodes(other, within_functions)
        else:
            yield node
            yield from nodes(node, within_functions)


def imported_names(source: str, package: str, within_functions: bool = True) -> Iterator[tuple[str, str | None]]:
    """What a module imports.

    Args:
        source: Its text.
        package: The package that it is in, for relative imports.
        within_functions: Count the imports that wait until a function is called, too.

    Yields:
        Pairs: a module, and a name that is taken from it, or None.
    """
    for node in nodes(ast.parse(source), within_functions):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name('.' * node.level + (node.module or ''), package)
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition('.')[2] == 'import_module':
            if isinstance(node.args[0], ast.Constant):
                yield node.args[0].value, None


@cache
def modules() -> dict[str, Path]:
    """Name -> file of every module of the package."""
    files = {}
    for path in sorted((ROOT / PACKAGE).rglob('*.py')):
        parts = path.relative_to(ROOT).with_suffix('').parts
        files['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return files


@cache
def names_of(module: str, within_functions: bool = True) -> frozenset[tuple[str, str | None]]:
    """What a module of the package imports, see ``imported_names``."""
    path = modules()[module]
    package = module if path.name == '__init__.py' else module.rpartition('.')[0]
    return frozenset(imported_names(path.read_text(encoding='utf-8'), package, within_functions))


def own_modules(module: str, within_functions: bool = True) -> set[str]:
    """The modules of the package that a module of it imports; one that does not exist is among them all the same."""
    found = set()
    for name, member in names_of(module, within_functions):
        if name.partition('.')[0] == PACKAGE:
            inner = f'{name}.{member}'
            found.add(inner if inner in modules() else name)
    # Python runs the __init__ of a package before any module in it, unless the importer is in there itself.
    packages = {'.'.join(name.split('.')[:depth]) for name in found for depth in range(1, name.count('.') + 1)}
    return found | {package for package in packages if not f'{module}.'.startswith(f'{package}.')}


@cache
def graph() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports."""
    return {module: own_modules(module) for module in modules()}


def reach(start: set[str]) -> dict[str, str]:
    """Every module that some modules need, themselves included -> one that imports it."""
    importers = dict.fromkeys(start, '')
    waiting = sorted(start)
    for module in waiting:  # grows on the way
        new = sorted(graph().get(module, set()) - importers.keys())
        importers.update(dict.fromkeys(new, module))
        waiting.extend(new)
    return importers


def circle(edges: Mapping[str, set[str]]) -> str:
    """One circle of a graph in words, or nothing."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return '\n  imports '.join(reversed(error.args[1]))
    return ''


def test_imports_within_functions_count():
    source = (
        'import a.b as c\n'
        'from typing import TYPE_CHECKING\n'
        'if TYPE_CHECKING:\n    import never\nelse:\n    import otherwise\n'
        'def f():\n    from p.q import r\n    from . import near\n    importlib.import_module("lazy").x()\n'
    )
    at_once = {('a.b', None), ('typing', 'TYPE_CHECKING'), ('otherwise', None)}
    assert set(imported_names(source, 'p', within_functions=False)) == at_once
    assert set(imported_names(source, 'p')) == at_once | {('p.q', 'r'), ('p', 'near'), ('lazy', None)}


def test_circles_are_told():
    assert circle({'a': {'b'}, 'b': {'c'}, 'c': set()}) == ''
    assert sorted(circle({'a': {'b'}, 'b': {'c'}, 'c': {'b'}}).split('\n  imports ')[1:]) == ['b', 'c']


def test_imports_go_in_no_circle():
    found = circle(graph())
    assert not found, f'A circle of imports:\n{found}'


def test_imported_modules_exist():
    lacking = {f'{module} imports {name}' for module, found in graph().items() for name in found - modules().keys()}
    assert not lacking


@pytest.mark.parametrize('room', MAY_NOT_REACH)
def test_room_does_not_reach_above_itself(room):
    importers = reach({module for module in modules() if f'{module}.'.startswith(f'{PACKAGE}.{room}.')})
    forbidden = tuple(f'{PACKAGE}.{other}.' for other in MAY_NOT_REACH[room])
    found = {f'{by} imports {module}' for module, by in importers.items() if f'{module}.'.startswith(forbidden)}
    assert not found


def test_package_imports_no_script():
    scripts = {'scripts', *(path.stem for path in (ROOT / 'scripts').glob('*.py'))}
    found = {f'{module}: {name}' for module in modules() for name, _ in names_of(module)
             if name.partition('.')[0] in scripts}  # fmt: skip
    assert not found


def test_start_up_hook_knows_what_imports_no_basicsr():
    needed = reach({f'{PACKAGE}.plugin'})  # by BasicSR, once it is complete
    found = set()
    for module in needed.keys() & modules().keys():
        if module != PACKAGE and not _is_on_basicsr(module):
            names = {name for name, _ in names_of(module, False)} | own_modules(module, False)
            found |= {f'{module} imports {name}' for name in names
                      if name.partition('.')[0] == 'basicsr' or _is_on_basicsr(name)}  # fmt: skip
    assert not found, 'WITHOUT_BASICSR in _autoload.py is not right'
