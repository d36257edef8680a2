"""Images from nearly flat to very busy, and a watch on what would wait for a GPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dynq_basicsr.runtime.decide import build_policy


@pytest.fixture
def textures():
    """Draw images of every contrast and roughness, (N, 3, H, W) in [0, 1]."""

    def draw(count=24, side=12, seed=2):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.rand(count, 3, side, side, generator=generator)
        noise[::2] = noise[::2].cumsum(dim=3) / side  # smooth ones between the rough
        contrast = torch.linspace(0.01, 1, count).view(-1, 1, 1, 1)
        return (0.5 + contrast * (noise - 0.5)).clamp(0, 1)

    return draw


class _NoHostReads(TorchDispatchMode):
    waits = ('_local_scalar_dense', 'item', 'equal', 'nonzero', 'masked_select', 'is_nonzero')

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        assert name not in self.waits, f'{name} reads from the device'
        return function(*args, **kwargs or {})


@pytest.fixture
def no_host_reads():
    """A block in which no number of a tensor may be asked for."""
    return _NoHostReads


@pytest.fixture
def chosen_by_runtime():
    """The bits (K, N) that a runtime without PyTorch gives images, by what the policy tells it."""

    def choose(policy, images, shallow=None):
        configs, module = policy.bit_configs(), policy.runtime_module
        columns = []
        for index, image in enumerate(images.numpy()):
            controller = module and (lambda _, index=index: module(shallow[index : index + 1]).detach().numpy())
            decide = build_policy(policy.runtime_spec(), configs, controller)
            columns.append(torch.tensor(configs[decide(image, image)]))
        return torch.stack(columns, dim=1)

    return choose
