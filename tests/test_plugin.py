"""What is registered, once, and how errors reach the user."""

import subprocess
import sys

import pytest
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY, Registry

from dynq_basicsr import cli, plugin
from dynq_basicsr.errors import DynqError


@pytest.mark.parametrize('registry, things', [
    (ARCH_REGISTRY, plugin.ARCHS), (MODEL_REGISTRY, plugin.MODELS), (DATASET_REGISTRY, plugin.DATASETS),
    (METRIC_REGISTRY, plugin.METRICS),
], ids=['archs', 'models', 'datasets', 'metrics'])
def test_everything_is_registered_under_its_own_name(registry, things):
    plugin.register()
    plugin.register()
    assert things
    for thing in things:
        assert registry.get(thing.__name__) is thing


def test_a_second_owner_of_a_name_is_named():
    registry = Registry('test')

    class Thing:
        pass

    first, Thing.__module__ = Thing, 'one.package'
    registry.register(first)
    second = type('Thing', (), {'__module__': 'another.package'})
    with pytest.raises(DynqError, match='one.package and by another.package'):
        plugin._add(registry, second)
    assert registry.get('Thing') is first


def test_sentence_of_a_data_loading_process():
    text = ('Caught DynqError in worker process 0.\nOriginal Traceback:\n  ...\n'
            'dynq_basicsr.errors.DynqError: x.png is empty.\n')
    assert cli.sentence(DynqError(text)) == 'dynq_basicsr: error: x.png is empty.'
    assert cli.sentence(DynqError('a: b')) == 'dynq_basicsr: error: a: b'


@pytest.mark.parametrize('statement, expected', [
    ('raise DynqError("mend it.")', ['dynq_basicsr: error: mend it.']),
    ('raise ValueError("other")', ['Traceback (most recent call last):', 'ValueError: other']),
])
def test_scripts_end_in_one_line(statement, expected):
    code = ('from dynq_basicsr import cli\nfrom dynq_basicsr.errors import DynqError\n'
            'cli.say_errors_in_one_line()\ncli.say_errors_in_one_line()\n' + statement)
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and [lines[0], lines[-1]] == [expected[0], expected[-1]]
    assert len(lines) == 1 or 'ValueError' in lines[-1]
