"""One list of settings, for callers, for the command and for what runs."""

import inspect
from dataclasses import MISSING, fields

import pytest

import dynq_basicsr
from dynq_basicsr import cli
from dynq_basicsr.commands import quantize as command
from dynq_basicsr.errors import DynqError
from dynq_basicsr.settings import Settings, taking


def test_the_function_shows_what_it_takes_and_explains_each():
    parameters = inspect.signature(dynq_basicsr.quantize).parameters
    assert list(parameters) == [field.name for field in fields(Settings)]
    for field in fields(Settings):
        parameter = parameters[field.name]
        assert (parameter.default is parameter.empty) == (field.default is MISSING)
        assert f'\n        {field.name}: ' in dynq_basicsr.quantize.__doc__
    assert parameters['bits'].kind is inspect.Parameter.KEYWORD_ONLY and parameters['bits'].default == 4
    assert inspect.signature(dynq_basicsr.quantize).return_annotation == 'Quantized'


def test_settings_are_passed_on():
    @taking(Settings)
    def told(settings: Settings) -> Settings:
        """Return what it is told."""
        return settings

    found = told('net.pth', images=['a'], bits=6)
    assert (found.model, found.images, found.bits, found.seed) == ('net.pth', ['a'], 6, 1)
    assert told.__doc__ == 'Return what it is told.'
    with pytest.raises(DynqError, match=r"^told: unknown option 'bitz'\. Did you mean 'bits'"):
        told('net.pth', 'a', bitz=6)
    with pytest.raises(TypeError, match='too many positional arguments'):
        told('net.pth', 'a', 6)
    with pytest.raises(TypeError, match="missing a required argument: 'images'"):
        told('net.pth')


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        ({'bits': 9}, '^bits: must be'),
        ({'bits': None}, '^bits: must be'),
        ({'bits': True}, '^bits: must be'),
        ({'weight_bits': 32}, '^weight_bits: must be'),
        ({'calibration': 0}, '^calibration: must be'),
        ({'scale': 0}, '^scale: must be'),
        ({'seed': -1}, '^seed: must be'),
        ({'value_range': 0}, '^value_range: must be a positive number, not 0'),
        ({'value_range': float('nan')}, '^value_range: must be a positive number, not nan'),
        ({'value_range': float('inf')}, '^value_range: must be'),
        ({'value_range': '255'}, '^value_range: must be'),
        ({'output': 1.0}, '^output: must be the index or the key'),
        ({'output': True}, '^output: must be the index or the key'),
    ],
)
def test_what_makes_no_sense(options, told):
    with pytest.raises(DynqError, match=told):
        Settings('net.pth', 'photos', **options)


def test_the_command_has_the_same_defaults(monkeypatch):
    given = []
    monkeypatch.setattr(command, 'run', given.append)
    assert cli.main(['quantize', 'net.pth', 'photos', '-o', 'out']) == 0
    flags = {'bits', 'weight_bits', 'method', 'recipe', 'scope', 'calibration', 'device', 'arch', 'scale', 'seed'}
    defaults = {field.name: field.default for field in fields(Settings) if field.name in flags}
    assert defaults.keys() == flags and defaults.items() <= vars(given[0]).items()
