"""The budget of bits, and what a policy need not override."""

import pytest
import torch

from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies import POLICIES
from dynq_basicsr.policies.base import AdaptiveBody, BitBudget, BitPolicy, CalibrationStatistics

BATCHES = ([4.0, 6.0], [8.0, 8.0], [3.0, 4.0], [7.0, 5.0])


def bits(*values, layers=3):
    return torch.tensor(values).expand(layers, -1).clone().requires_grad_()


def budget(target=4.5, momentum=0.9, mean=float('nan')):
    return BitBudget(target, momentum, torch.tensor(mean))


# -- the budget ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_the_mean_starts_with_the_first_batch(momentum):
    one = budget(momentum=momentum)
    assert one.excess(bits(4.0, 8.0)).item() == pytest.approx(1.5)
    assert one.mean.item() == 6 and not one.mean.requires_grad


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_it_is_the_running_mean_by_hand(momentum):
    one, mean = budget(momentum=momentum), None
    for batch in BATCHES:
        now = sum(batch) / len(batch)
        mean = now if mean is None else momentum * mean + (1 - momentum) * now
        assert one.excess(bits(*batch)).item() == pytest.approx(max(mean - 4.5, 0), abs=1e-6)
        assert one.mean.item() == pytest.approx(mean)


def test_without_momentum_each_batch_is_by_itself():
    one = budget(momentum=0.0)
    for batch in BATCHES:
        assert one.excess(bits(*batch)).item() == max(sum(batch) / 2 - 4.5, 0)
        assert one.mean.item() == sum(batch) / 2


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_the_gradient_is_that_of_this_batch_alone(momentum):
    one = budget(momentum=momentum)
    first, second = bits(8.0, 8.0), bits(6.0, 7.0)
    one.excess(first)
    one.excess(second).backward()
    # that of the plain mean, whatever the momentum: a rate of learning is not to depend on it
    torch.testing.assert_close(second.grad, torch.full((3, 2), 1 / 6))
    assert first.grad is None


def test_below_the_target_nothing_costs_and_nothing_pulls():
    given = bits(4.0, 4.0)
    excess = budget().excess(given)
    excess.backward()
    assert excess.item() == 0 and not given.grad.any()


def test_a_mean_above_the_target_pulls_a_batch_below_it():
    given = bits(4.0, 4.0)
    budget(mean=8.0).excess(given).backward()
    assert (given.grad > 0).all()


def test_bits_that_hold_for_all_samples_count_as_theirs():
    one, other = budget(), budget()
    assert one.excess(bits(5.0)).item() == other.excess(bits(5.0, 5.0)).item()


def test_the_mean_is_updated_in_place_without_reading_it(no_host_reads):
    mean = torch.tensor(float('nan'))
    one = BitBudget(4.0, 0.9, mean)
    with no_host_reads():
        one.excess(bits(5.0, 7.0)).backward()
    assert mean.item() == 6


# -- policies --------------------------------------------------------------------------------------------------------


class Own(BitPolicy):
    candidates = (3, 5)


def own():
    return Own(AdaptiveBody(4, ActivationOptions(bits=5)))


def test_what_a_policy_need_not_override():
    one, image = own(), torch.zeros(2, 3, 4, 4)
    assert one.measure(image) is None and one.adapt(image) is None and one.summary() == ''
    one.calibrate(CalibrationStatistics(torch.empty(0), torch.ones(4)))
    assert one.typical_bits().tolist() == [5.0] * 4
    assert one.losses(torch.ones(4, 1), budget()) == {} and one.parameter_groups() == {}
    assert (one.needs_shallow, one.by_layer, one.runtime_module) == (False, False, None)


def test_what_it_must_is_no_silence():
    with pytest.raises(NotImplementedError):
        own().decide(torch.zeros(1, 3, 4, 4), None)
    with pytest.raises(NotImplementedError):
        own().decide_layer(0, torch.zeros(1))
    with pytest.raises(NotImplementedError):
        _ = BitPolicy(AdaptiveBody(4, ActivationOptions(bits=5))).candidates


@pytest.mark.parametrize('method', ['bit_configs', 'runtime_spec'])
def test_a_policy_that_no_runtime_knows_runs_in_pytorch(method):
    with pytest.raises(DynqError, match=r'network_g\.policy: Own tells|Own does not tell'):
        getattr(own(), method)()


@pytest.mark.parametrize('name', sorted(POLICIES))
def test_bits_are_asked_for_once_and_come_for_every_layer(name, textures, no_host_reads):
    torch.manual_seed(0)
    one = POLICIES[name](AdaptiveBody(4, ActivationOptions(bits=8), 16))
    if name == 'GranularDQ':
        one.set_distribution(torch.linspace(0, 3.4, 100))
    image, shallow = textures(6), torch.randn(6, 16, 12, 12)
    for training in (True, False):
        with no_host_reads():
            decided = one.train(training).decide(image, shallow)
        assert decided.shape in ((4, 6), (4, 1)) and decided.dtype == torch.float32
        assert set(decided.flatten().tolist()) <= set(map(float, one.candidates))
    assert one.typical_bits().shape == (4,)
