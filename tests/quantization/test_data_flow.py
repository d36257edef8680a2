"""What reads what, in networks that write in place, branch and lend memory."""

import torch
from torch import nn

from dynq_basicsr.quantization.data_flow import Edge, trace


class InPlace(nn.Module):
    """Results that are put together in a canvas, and an activation and an addition in place."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.lost = (nn.Conv2d(3, 3, 1) for _ in range(4))
        self.unseen = nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, x):
        canvas = torch.zeros_like(x)
        canvas[..., :8] = torch.relu_(self.a(x))[..., :8]
        y = self.b(x)
        y += canvas
        canvas = canvas.clone()
        canvas[..., 8:] = y[..., 8:]
        self.lost(x)
        return self.c(canvas * self.unseen)


def paths(flow, kinds=(Edge.FLOW,)):
    """Names of the layers that lead to the result."""
    reached = flow.before(flow.results, kinds)
    return {name for name, steps in flow.runs().items() if reached & set(steps)}


def test_values_that_are_written_in_place_are_followed():
    flow = trace(InPlace(), torch.rand(1, 3, 16, 16))
    assert paths(flow) == {'a', 'b', 'c'} and set(flow.runs()) == {'a', 'b', 'c', 'lost'}
    b, c = flow.runs()['b'][0], flow.runs()['c'][0]
    assert c in flow.behind([b], Edge) and b not in flow.behind([c], Edge) and b not in flow.behind([b], Edge)
    assert c not in flow.behind([b], Edge, around=flow.readers()[b])


def test_constants_are_no_steps():
    flow = trace(InPlace(), torch.rand(1, 3, 16, 16))
    assert all(step.sources for step in flow.steps[1:]) and not flow.steps[0].sources
    assert flow.steps[0].shape == (1, 3, 16, 16)


def test_the_network_is_as_before():
    net = InPlace().train()
    net.b.eval()
    state, modes = {k: v.clone() for k, v in net.state_dict().items()}, [m.training for m in net.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    trace(net, torch.rand(1, 3, 16, 16))
    assert [m.training for m in net.modules()] == modes and torch.backends.mha.get_fastpath_enabled() == fast
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_an_exception_leaves_no_hook():
    net = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Linear(5, 5))
    try:
        trace(net, torch.rand(1, 3, 16, 16))
    except RuntimeError:
        pass
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules()) and net.training
