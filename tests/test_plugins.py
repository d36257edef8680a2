"""A user's files and modules that register something of theirs."""

import sys

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.plugins import load_plugins


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory; modules that a test imports from it are forgotten."""
    monkeypatch.chdir(tmp_path)
    before, paths = set(sys.modules), list(sys.path)
    yield tmp_path
    assert sys.path == paths
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_files_and_modules_are_imported_once(folder):
    (folder / 'counted.py').write_text('from neighbour import VALUE\nRUNS = []\n')
    (folder / 'neighbour.py').write_text('VALUE = 3\n')
    (folder / 'package').mkdir()
    (folder / 'package' / 'inner.py').write_text('VALUE = 4\n')
    one, inner, again, whole = load_plugins(
        ['counted.py', 'package.inner', './counted.py', str(folder / 'counted.py')]
    )
    assert one is again is whole and one.VALUE == 3 and inner.VALUE == 4
    assert 'counted' not in sys.modules  # a name that others may want


def test_two_files_of_one_name_are_two_modules(folder):
    for name in ('a', 'b'):
        (folder / name).mkdir()
        (folder / name / 'archs.py').write_text(f'NAME = {name!r}\n')
    assert [one.NAME for one in load_plugins(['a/archs.py', 'b/archs.py'])] == ['a', 'b']


def test_architectures_that_they_register_can_be_built(folder):
    import basicsr  # noqa: F401  (fills the registries)
    from basicsr.utils.registry import ARCH_REGISTRY

    from dynq_basicsr import plugin
    from dynq_basicsr.archs.quantized_arch import QuantizedSR

    plugin.register()
    (folder / 'mine.py').write_text(
        'from basicsr.utils.registry import ARCH_REGISTRY\n'
        'from torch import nn\n'
        '@ARCH_REGISTRY.register()\n'
        'class MineForATest(nn.Sequential):\n'
        '    def __init__(self, width, **others):\n'
        '        layers = [nn.Conv2d(3, width, 3, 1, 1), nn.Conv2d(width, width, 3, 1, 1), nn.ReLU()]\n'
        '        super().__init__(*layers, nn.Conv2d(width, 12, 3, 1, 1), nn.PixelShuffle(2))\n'
    )
    options = {'type': 'MineForATest', 'width': 4, 'anything': True}
    with pytest.raises(DynqError, match=r"no registered architecture 'MineForATest'.*`plugins: \[my_archs.py\]`"):
        QuantizedSR(options)
    load_plugins(['mine.py'])
    try:
        net = QuantizedSR(options, {'weight': {'bits': 4}})
        assert net.plan.adaptive == ('1',) and net.scale == 2
        with pytest.raises(DynqError, match='MineForATest needs width'):
            QuantizedSR({'type': 'MineForATest'})
    finally:
        del ARCH_REGISTRY._obj_map['MineForATest']


@pytest.mark.parametrize('content, said', [
    ('x = 1\n\nx.y\n', r"bad.py fails in .*bad.py, line 3, with AttributeError \('int' object has no attribute 'y'\)"),
    ('def f(:\n', r'bad.py fails in .*bad.py, line 1, with SyntaxError'),
    ('import json\njson.loads("{")', r'bad.py fails in .*line \d+, with JSONDecodeError'),
    ('import no_such_thing', r"bad.py fails in .*bad.py, line 1, with ModuleNotFoundError \(No module named"),
    ('raise ValueError', r'bad.py fails in .*bad.py, line 1, with ValueError; mend it'),
])  # fmt: skip
def test_failures_name_the_file_and_the_line(folder, content, said):
    (folder / 'bad.py').write_text(content)
    before = set(sys.modules)
    with pytest.raises(DynqError, match=said) as caught:
        load_plugins(['bad.py'])
    assert '\n' not in str(caught.value) and not any('bad' in name for name in set(sys.modules) - before)
    with pytest.raises(DynqError, match=said.replace('bad.py fails', 'bad fails')):
        load_plugins(['bad'])


@pytest.mark.parametrize('plugins, said', [
    (['absent.py'], "no file 'absent.py' in .*correct the path"), (['a/b'], "no file 'a/b'"),
    (['absent.module'], "no module 'absent.module' is installed"), (['.relative'], "no module '.relative'"),
    ('mine.py', "must be a list .* not 'mine.py'"), ([3], 'names of files and modules.*not 3'), (5, 'not 5'),
    ([''], "not ''"), (['a..b'], "no module 'a..b'"),
])  # fmt: skip
def test_what_is_not_there_is_told_in_a_sentence(folder, plugins, said):
    with pytest.raises(DynqError, match=said):
        load_plugins(plugins)


def test_option_files_name_them(folder, monkeypatch):
    import basicsr  # noqa: F401  (fills the registries)
    from basicsr.utils import options

    from dynq_basicsr import plugin

    plugin.register()
    (folder / 'mine.py').write_text('raise ValueError("seen")\n')
    (folder / 'test.yml').write_text(
        'name: t\nmodel_type: SRModel\nscale: 2\nnum_gpu: 0\nplugins: [mine.py]\n'
        'network_g: {type: EDSR}\npath: {}\ndatasets: {}\nval: {save_img: false}\n'
    )
    monkeypatch.setattr(sys, 'argv', ['test.py', '-opt', 'test.yml'])
    with pytest.raises(DynqError, match=r'mine.py fails in .*mine.py, line 1, with ValueError \(seen\)'):
        options.parse_options(str(folder), is_train=False)
