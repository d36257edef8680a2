"""The same bits for every image and layer, learned by nobody."""

import torch

from dynq_basicsr.policies.base import AdaptiveBody
from dynq_basicsr.policies.fixed import FixedPolicy
from dynq_basicsr.quantization.options import ActivationOptions


def test_it_answers_the_base_bits():
    policy = FixedPolicy(AdaptiveBody(5, ActivationOptions(bits=6)))
    decision = policy.decide(torch.zeros(2, 3, 4, 4), None)
    assert {decision(index, torch.zeros(2, 1)) for index in range(5)} == {6.0}


def test_it_learns_and_stores_nothing():
    policy = FixedPolicy(AdaptiveBody(5, ActivationOptions(bits=6)))
    assert policy.learned() == {} and policy.state_dict() == {}
