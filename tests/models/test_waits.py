"""An iteration of training only hands work to the device: it reads no value back."""

import pytest
import torch
from basicsr.models import build_model

from tests.models.waits import host_reads


def test_reads_are_seen():
    x = torch.tensor([1.0, 2.0])
    with host_reads() as found:
        x + 1
        x[torch.tensor([0, 1])]
        x.where(x > 1, 0)
    assert found == []
    for read in (
        lambda: x[0].item(), lambda: bool(x[0] > 0), lambda: x.tolist(), lambda: x.numpy(), lambda: x.cpu(),
        lambda: x[x > 1], lambda: torch.equal(x, x), lambda: x.nonzero(),
    ):  # fmt: skip
        with host_reads() as found:
            read()
        assert found


def iterate(model, batches, start):
    for iteration, batch in enumerate(batches, start):
        model.update_learning_rate(iteration, warmup_iter=-1)
        model.feed_data(batch)
        model.optimize_parameters(iteration)


@pytest.mark.parametrize('changes', [
    {},
    {'weight': {'bits': 4, 'rounding': 'learned', 'granularity': 'channel'}, 'activation': {'bits': 4}},
    {'scope': 'full'},
])  # fmt: skip
def test_an_iteration_of_adabm_waits_for_nothing(train_options, train, batches, changes):
    options = train_options(train={
        'total_iter': 9, 'stages': ['joint'], 'lr_schedule': 'cosine',
        'loss': {'bit': 2, 'target_bits': 3, 'bit_momentum': 0.9},
    })  # fmt: skip
    options['network_g']['quantization'] |= changes
    given = batches(6)
    model = train(options, given[:4])
    with host_reads() as found:
        iterate(model, given[4:], 5)
    assert found == []
    assert set(model.log_dict) == {'l_pix', 'l_skt', 'l_bit', 'bits'}


@pytest.mark.parametrize('quantizer', ['learned_step', 'learned_range', 'pams'])
def test_an_iteration_of_granular_dq_waits_for_nothing(granular_options, train, pairs, quantizer):
    """Thresholds adapt, and the network is averaged meanwhile."""
    options = granular_options({'adapt_iter': 9, 'ema_decay': 0.9, 'total_iter': 9, 'precision': 'bfloat16'})
    options['network_g']['quantization']['activation']['quantizer'] = quantizer
    given = pairs(4)
    model = train(build_model(options), given[:2])
    before = model.network.policy.quantiles.clone()
    with host_reads() as found:
        iterate(model, given[2:], 3)
    assert found == []
    assert not torch.equal(model.network.policy.quantiles, before)
    assert set(model.log_dict) == {'l_pix', 'bits'}
