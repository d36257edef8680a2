"""The same bits for every image and layer, learned by nobody."""

import torch

from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.policies.base import AdaptiveBody, BitBudget, CalibrationStatistics
from dynq_basicsr.policies.fixed import FixedPolicy


def policy():
    return FixedPolicy(AdaptiveBody(5, ActivationOptions(bits=6)))


def test_it_answers_the_base_bits():
    bits = policy().decide(torch.zeros(2, 3, 4, 4), None)
    assert bits.shape == (5, 1) and set(bits.flatten().tolist()) == {6.0}
    assert policy().typical_bits().tolist() == [6.0] * 5


def test_it_learns_and_stores_nothing():
    one = policy()
    assert one.parameter_groups() == {} and one.state_dict() == {}
    budget = BitBudget(4, 0, torch.tensor(float('nan')))
    assert one.losses(one.decide(torch.zeros(2, 3, 4, 4), None), budget) == {}


def test_it_wants_to_know_nothing():
    one = policy()
    assert one.measure(torch.zeros(2, 3, 4, 4)) is None and not one.needs_shallow and not one.by_layer
    one.calibrate(CalibrationStatistics(torch.empty(0), torch.ones(5)))
    one.adapt(torch.zeros(2, 3, 4, 4))
    assert one.summary() == ''


def test_a_runtime_has_one_graph():
    assert policy().candidates == (6,)
    assert policy().bit_configs() == {'a6': (6.0,) * 5}
    assert policy().runtime_spec() == {'type': 'fixed', 'code': 'a6'} and policy().runtime_module is None
