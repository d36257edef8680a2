"""Blocks of branches in a network become the convolution that they amount to: what is quantized is what runs."""

from __future__ import annotations

import torch
from torch import nn

from dynq_basicsr.backbones.branches import BRANCHES, WHOLE, merge
from dynq_basicsr.quantization.data_flow import evaluating

_SLOPE = 0.05  # of the activation that blocks may end with


class MergedBlock(nn.Sequential):
    """The convolution of a block, under the name that it has in there, and its activation.

    Args:
        block: Taken apart.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.add_module(WHOLE, getattr(block, WHOLE).requires_grad_(True))
        if getattr(block, 'has_relu', False):
            self.activation = nn.LeakyReLU(_SLOPE)
        self.train(block.training)


def merge_modules(net: nn.Module) -> nn.Module:
    """Replace every block of branches (``backbones.branches``) in a network by one convolution, in place.

    Blocks that differ from what is known of them stay as they are.

    Args:
        net: Any network; its results stay the same, but for the order of sums.

    Returns:
        The network.
    """
    for parent in list(net.modules()):
        for name, block in list(parent.named_children()):
            if _is_block(block) and (merged := _merged(block)) is not None:
                setattr(parent, name, merged)
    return net


def _is_block(module: nn.Module) -> bool:
    parts = dict(module.named_modules())
    return all(type(parts.get(name)) is nn.Conv2d and parts[name].bias is not None for name in (WHOLE, *BRANCHES))


@torch.no_grad()
def _merged(block: nn.Module) -> MergedBlock | None:
    """A block as one convolution; None if that does something else."""
    parts = [block.get_submodule(name) for name in BRANCHES]
    whole = getattr(block, WHOLE)
    if any(one.groups != 1 or one.stride != whole.stride for one in (parts[0], parts[2], whole)):
        return None
    image = torch.rand(1, whole.in_channels, 8, 8, generator=torch.Generator().manual_seed(0)).to(whole.weight)
    with evaluating(block):
        expected = block(image)
    try:
        weight, bias = merge(*(value for one in parts for value in (one.weight, one.bias)))
        whole.weight.data, whole.bias.data = weight, bias
    except (RuntimeError, IndexError):  # of other shapes
        return None
    merged = MergedBlock(block)
    result = merged(image)
    same = result.shape == expected.shape and torch.allclose(result, expected, rtol=1e-4, atol=1e-5)
    return merged if same else None
