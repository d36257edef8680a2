"""Every block of the context ends as it began, whatever happens inside."""

import pytest
import torch

from dynq_basicsr.quantization.context import BitContext, BitTrace


def test_deciding_lends_the_decision_for_a_block():
    context = BitContext()
    assert context.decision is None
    with context.deciding(lambda index, x: index + 4):
        assert context.decision(2, torch.zeros(1)) == 6
    assert context.decision is None


def test_floating_nests():
    context = BitContext()
    with context.floating():
        with context.floating():
            assert not context.quantizing
        assert not context.quantizing
    assert context.quantizing


def test_tracing_nests_and_keeps_traces_apart():
    context = BitContext()
    with context.tracing() as outer:
        outer.bits['a'] = 4
        with context.tracing() as inner:
            assert context.trace is inner and inner.bits == {}
        assert context.trace is outer
    assert context.trace is None and outer.bits == {'a': 4}
    assert BitTrace().bits == {}


@pytest.mark.parametrize('block', ['floating', 'tracing', 'deciding'])
def test_an_error_inside_restores_everything(block):
    context = BitContext()
    arguments = [lambda index, x: 4] if block == 'deciding' else []
    with pytest.raises(ValueError), getattr(context, block)(*arguments):
        raise ValueError
    assert (context.quantizing, context.decision, context.trace) == (True, None, None)
