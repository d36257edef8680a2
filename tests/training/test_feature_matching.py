"""Both feature losses against their formulas, and taps that leave nothing behind."""

import weakref

import pytest
import torch
from torch import nn

from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.run import Mode, Run, RunHolder
from dynq_basicsr.training.feature_matching import FEATURE_LOSSES, attention_loss, structure_loss, tapped_modules


def random(*shape, seed, **more):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, **more)


def features(seed):
    return [random(3, 4, 5, 6, seed=seed), 20 * random(3, 7, 4, seed=seed + 1)]


def reference(student, teacher):
    """AdaBM Eq. 10: 1/(N K) sum over taps and images of || F / ||F|| - F' / ||F'|| ||."""
    total = 0.0
    for ours, theirs in zip(student, teacher, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            total = total + (one / one.norm() - other / other.norm()).norm()
    return total / (len(student) * len(student[0]))


def test_equals_the_formula():
    assert structure_loss(features(0), features(5)).item() == pytest.approx(float(reference(features(0), features(5))))


def test_gradients_equal_those_of_the_formula():
    ours, again = ([one.requires_grad_() for one in features(0)] for _ in range(2))
    structure_loss(ours, features(5)).backward()
    reference(again, features(5)).backward()
    for one, other in zip(ours, again, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_gradients_by_finite_differences():
    teacher = [random(2, 2, 3, seed=9)]
    assert torch.autograd.gradcheck(lambda x: structure_loss([x], teacher), random(2, 2, 3, seed=8, requires_grad=True))


def attention_reference(student, teacher):
    """PTQ4SR: map = mean over channels of F^2, unit norm an image, mean squared error, mean over blocks."""

    def unit_map(one):
        one = one if one.dim() == 3 else one.T.unsqueeze(-1)  # tokens (L, C) to (C, L, 1)
        squares = sum(channel * channel for channel in one) / len(one)
        return squares / (squares * squares).sum() ** 0.5

    taps = []
    for ours, theirs in zip(student, teacher, strict=True):
        images = [(unit_map(one) - unit_map(other)) ** 2 for one, other in zip(ours, theirs, strict=True)]
        taps.append(sum(one.mean() for one in images) / len(images))
    return sum(taps) / len(taps)


def test_attention_equals_the_formula_and_so_does_its_gradient():
    ours, again = ([one.requires_grad_() for one in features(0)] for _ in range(2))
    loss, expected = attention_loss(ours, features(5)), attention_reference(again, features(5))
    assert loss.item() == pytest.approx(expected.item()) and loss.item() > 0
    loss.backward()
    expected.backward()
    for one, other in zip(ours, again, strict=True):
        torch.testing.assert_close(one.grad, other.grad)
        assert one.grad.abs().max() > 0
    teacher = [random(2, 2, 3, 2, seed=9)]
    student = random(2, 2, 3, 2, seed=8, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attention_loss([x], teacher), student)


def test_attention_knows_places_but_neither_sign_nor_size():
    same = features(0)
    assert attention_loss(same, [-3 * one for one in same]).item() == pytest.approx(0, abs=1e-12)
    here, there = torch.zeros(2, 1, 3, 4, 5)
    here[..., 1, 1], there[..., 2, 2] = 1, 5
    assert attention_loss([here], [there]).item() == pytest.approx(2 / 20)


def test_attention_keeps_no_copy_of_a_feature():
    x = random(2, 8, 5, 5, seed=1, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda one: kept.append(one) or one, lambda one: one):
        attention_loss([x], [random(2, 8, 5, 5, seed=2)])
    large = [one for one in kept if one.numel() >= x.numel()]
    assert large and all(one.data_ptr() == x.data_ptr() for one in large)


def test_every_image_counts_by_itself():
    student, teacher = features(0), features(5)
    alone = [structure_loss([o[i : i + 1] for o in student], [t[i : i + 1] for t in teacher]) for i in range(3)]
    assert structure_loss(student, teacher).item() == pytest.approx(torch.stack(alone).mean().item())
    # and so a large image does not drown a small one
    student[0][0] *= 1000
    assert structure_loss(student, teacher).item() == pytest.approx(torch.stack(alone).mean().item())


def test_extremes():
    same, other = features(0), [-one for one in features(0)]
    assert structure_loss(same, same).item() == pytest.approx(0, abs=1e-6)
    assert structure_loss(same, [3 * one for one in same]).item() == pytest.approx(0, abs=1e-6)
    assert structure_loss(same, other).item() == pytest.approx(2)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('form', FEATURE_LOSSES)
def test_equal_and_dead_features_have_finite_gradients(memory_format, form):
    feature_loss = FEATURE_LOSSES[form]
    x = torch.rand(2, 3, 4, 4).contiguous(memory_format=memory_format).requires_grad_()
    feature_loss([x], [x.detach().clone()]).backward()
    assert x.grad.isfinite().all()
    dead = torch.zeros(2, 3, 4, 4).contiguous(memory_format=memory_format).requires_grad_()
    loss = feature_loss([dead], [torch.zeros(2, 3, 4, 4)])
    loss.backward()
    assert loss.isfinite() and dead.grad.isfinite().all()


def test_channels_last_is_the_same():
    student, teacher = random(2, 3, 4, 5, seed=1), random(2, 3, 4, 5, seed=2)
    last = [one.contiguous(memory_format=torch.channels_last) for one in (student, teacher)]
    torch.testing.assert_close(structure_loss([last[0]], [last[1]]), structure_loss([student], [teacher]))
    torch.testing.assert_close(structure_loss([last[0]], [teacher]), structure_loss([student], [teacher]))


def test_lists_of_unequal_length_are_refused():
    with pytest.raises(ValueError):
        structure_loss(features(0), features(0)[:1])


def watched(net, names):
    """A run that collects features of a network, which tells the run's holder about them."""
    holder, run = RunHolder(), Run(Mode.FLOAT)
    run.features = []
    for module in tapped_modules(net, names):
        module.register_forward_hook(holder.see_feature)
    return holder, run


def test_taps_read_outputs_in_order_of_execution_and_only_where_a_run_asks():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    holder, run = watched(net, ['2', '0'])
    x = torch.rand(4, 2)
    net(x)  # by itself
    assert run.features == []
    holder.run = run
    y = net(x)
    assert [tuple(one.shape) for one in run.features] == [(4, 3), (4, 1)] and run.features[1] is y
    holder.run = Run(Mode.FLOAT)  # nobody asks
    net(x)
    assert holder.run.features is None and len(run.features) == 2


def test_nothing_of_a_forward_stays_behind(network):
    x = torch.rand(1, 3, 8, 8)
    kept = weakref.ref(network(x, mode=Mode.FLOAT, details=True).features[0])
    assert network.holder.run is None and kept() is None
    with pytest.raises(RuntimeError):
        network(torch.rand(1, 5, 8, 8), mode=Mode.FLOAT, details=True)
    assert network.holder.run is None
    assert len(network(x, mode=Mode.FLOAT, details=True).features) == 2


def test_features_are_those_of_the_blocks_whoever_else_runs(network):
    x, seen = torch.rand(2, 3, 8, 8), []
    for block in network.backbone.body:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network(x, mode=Mode.TRAINING)  # asks for none
    seen.clear()
    features = network(x, mode=Mode.TRAINING, details=True).features
    assert [id(one) for one in features] == [id(one) for one in seen] and len(features) == 2


def test_taps_keep_the_graph(network):
    features = network(torch.rand(1, 3, 8, 8), mode=Mode.FLOAT, details=True).features
    features[0].sum().backward()
    assert network.backbone.body[0].conv1.weight.grad is not None
    assert network.backbone.body[1].conv1.weight.grad is None


class TwoLists(nn.Module):
    """Blocks in two lists, which never run themselves; the second kind returns a tuple."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.decoder = nn.ModuleDict({'last': Pair()})

    def forward(self, x):
        for block in self.encoder:
            x = block(x)
        return self.decoder['last'](x)[0]


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, x


def test_members_stand_for_lists_and_the_first_tensor_for_tuples():
    net = TwoLists()
    assert tapped_modules(net, ['encoder', 'decoder']) == [*net.encoder, net.decoder['last']]
    holder, run = watched(net, ['encoder', 'decoder'])
    holder.run = run
    result = net(torch.ones(2, 3))
    assert len(run.features) == 3 and torch.equal(run.features[-1], result)


@pytest.mark.parametrize('form', FEATURE_LOSSES)
def test_no_feature_at_all_is_an_error(form):
    with pytest.raises(DynqError, match='no features to match'):
        FEATURE_LOSSES[form]([], [])
