"""The compiler: when it is asked, what happens without one, and that it changes no number."""

import logging

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model
from torch import nn

from dynq_basicsr.training import compiling
from dynq_basicsr.training.compiling import CompiledNetwork, wants_compiler

SMALL = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
CPU, CUDA = torch.device('cpu'), torch.device('cuda')
POLICY = {'type': 'GranularDQ', 'granularity_bits': [8]}  # no controller: compiled dice are other dice


@pytest.mark.parametrize('option', [True, False])
@pytest.mark.parametrize('device', [CPU, CUDA, torch.device('meta')])
def test_what_is_asked_for_is_done(option, device):
    assert wants_compiler(option, device, 1) is option and wants_compiler(option, device, 10**6) is option


def test_by_itself_only_a_long_run_on_a_gpu_is_compiled():
    assert wants_compiler('auto', CUDA, compiling.PAYS) and not wants_compiler('auto', CUDA, compiling.PAYS - 1)
    assert not wants_compiler('auto', CPU, 10**9) and not wants_compiler('auto', torch.device('meta'), 10**9)


@pytest.fixture
def failing(monkeypatch):
    """``torch.compile`` as where the compiler fails; counts its calls."""
    calls = []

    def compile_(net, **options):
        def fail(*args, **options):
            calls.append(1)
            raise RuntimeError('\nno compiler\nand a long trace')

        return fail

    monkeypatch.setattr(torch, 'compile', compile_)
    return calls


@pytest.fixture
def warnings():
    """What BasicSR's logger says at level WARNING."""
    lines = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger('basicsr')
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_a_compiler_that_fails_is_asked_once_and_told_in_one_line(failing, warnings):
    net = CompiledNetwork(nn.Linear(2, 3), CPU)
    for _ in range(3):
        x = torch.rand(4, 2)
        assert torch.equal(net(x), net._net(x))
    assert len(failing) == 1
    assert warnings == ['train.compile: cannot be done here, so training goes on without, only slower (no compiler).']


def test_what_the_network_itself_throws_is_thrown(failing):
    with pytest.raises(RuntimeError, match='shapes cannot be multiplied'):
        CompiledNetwork(nn.Linear(2, 3), CPU)(torch.rand(4, 5))


@pytest.fixture(autouse=True)
def small(tmp_path):
    """Float weights of a network that is compiled in seconds."""
    torch.manual_seed(3)
    torch.save({'params': build_network(SMALL).state_dict()}, tmp_path / 'small.pth')


def on_a_small_network(options):
    checkpoint = f'{options["path"]["experiments_root"]}/../small.pth'
    options['network_g']['backbone'], options['path']['pretrain_network_g'] = dict(SMALL), checkpoint
    return options


def states_of_adabm(train_options, train, batches, **changes):
    options = on_a_small_network(train_options(train={'stages': ['joint'], 'total_iter': 5, **changes}))
    losses = []
    model = train(options, batches(5), watch=lambda _, model: losses.append(dict(model.log_dict)))
    return model, losses[2:]


def states_of_granular(granular_options, train, pairs, **changes):
    torch.manual_seed(0)
    losses = []
    model = build_model(on_a_small_network(granular_options(changes, policy=POLICY)))
    train(model, pairs(4), watch=lambda _, model: losses.append(dict(model.log_dict)))
    return model, losses


def assert_equal(one, other):
    assert [name for name, value in one.state_dict().items() if not torch.equal(value, other.state_dict()[name])] == []


def test_where_nothing_compiles_adabm_goes_on_with_the_same_numbers(train_options, train, batches, failing, warnings):
    (plain, expected), (model, losses) = (
        states_of_adabm(train_options, train, batches, compile=compiled) for compiled in (False, True)
    )
    assert losses == expected and len(warnings) == len(failing) == 1
    assert_equal(plain.network, model.network)


def test_where_nothing_compiles_granular_dq_goes_on_with_the_same_numbers(
    granular_options, train, pairs, failing, warnings
):
    (plain, expected), (model, losses) = (
        states_of_granular(granular_options, train, pairs, compile=compiled) for compiled in (False, True)
    )
    assert losses == expected and len(warnings) == len(failing) == 1
    assert_equal(plain.network, model.network)


def assert_close(compiled, plain, losses, expected, warnings):
    assert isinstance(compiled.compiled, CompiledNetwork) and plain.compiled is None
    assert warnings == [] and compiled.compiled._run is not compiled.compiled._net
    assert len({loss['l_pix'] for loss in losses}) == len(losses) > 2
    for one, other in zip(losses, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_compiled_adabm_computes_the_same(train_options, train, batches, compiler, warnings):
    (plain, expected), (model, losses) = (
        states_of_adabm(train_options, train, batches, compile=compiled) for compiled in (False, True)
    )
    assert_close(model, plain, losses, expected, warnings)


def test_compiled_granular_dq_computes_the_same(granular_options, train, pairs, compiler, warnings):
    (plain, expected), (model, losses) = (
        states_of_granular(granular_options, train, pairs, compile=compiled) for compiled in (False, True)
    )
    assert_close(model, plain, losses, expected, warnings)
