"""Blocks of parallel branches that amount to one convolution, as SPAN's: merged into it, and taken apart again.

Such a block (Wan et al., SPAN, CVPRW 2024) has a 1 x 1 convolution ``sk`` beside three in a row, ``conv``, of 1 x 1,
3 x 3 and 1 x 1, and the convolution ``eval_conv`` that is both at once, whose weights it writes in every forward.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

WHOLE, BRANCHES = 'eval_conv', ('sk', 'conv.0', 'conv.1', 'conv.2')
_WIDENING = 2  # how many times as many channels the row has within


def merge_blocks(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of blocks as one convolution, where the network to load has that alone.

    Args:
        state: A state dict.
        own: That of the network.

    Returns:
        The state dict; branches are gone, and what they amount to is in the weight and bias of ``eval_conv``.
    """
    merged = dict(state)
    for block in _blocks(state):
        names = [f'{block}{branch}.{kind}' for branch in BRANCHES for kind in ('weight', 'bias')]
        if f'{block}{WHOLE}.weight' in own and names[0] not in own and all(name in state for name in names):
            weight, bias = merge(*(merged.pop(name) for name in names))
            merged |= {f'{block}{WHOLE}.weight': weight, f'{block}{WHOLE}.bias': bias}
    return merged


def merge(
    side: Tensor, side_bias: Tensor, first: Tensor, first_bias: Tensor, middle: Tensor, middle_bias: Tensor,
    last: Tensor, last_bias: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The 3 x 3 convolution, with padding, that the branches amount to: zeros are padded in front of all of them.

    Args:
        side: Weight and bias of ``sk``, (C_out, C_in, 1, 1) and (C_out,).
        side_bias: See there.
        first: Of ``conv``, and so the others: (M, C_in, 1, 1), (N, M, 3, 3), (C_out, N, 1, 1).
        first_bias: See there.
        middle: See there.
        middle_bias: See there.
        last: See there.
        last_bias: See there.

    Returns:
        Weight (C_out, C_in, 3, 3) and bias (C_out,).
    """
    kind = side.dtype
    side, first, middle, last, *biases = (
        one.double() for one in (side, first, middle, last, side_bias, first_bias, middle_bias, last_bias)
    )
    weight = torch.einsum('on,nmhw,mi->oihw', last[..., 0, 0], middle, first[..., 0, 0])
    weight[..., 1, 1] += side[..., 0, 0]
    aside, begun, between, ended = biases
    bias = last[..., 0, 0] @ (middle.sum((2, 3)) @ begun + between) + ended + aside
    return weight.to(kind), bias.to(kind)


def split_blocks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give merged blocks branches that amount to the same, to the last bit, for who knows the network by them.

    Args:
        state: A state dict, the branches of whose blocks may be gone.
    """
    complete = dict(state)
    for block in _blocks(state):
        weight, bias = state[f'{block}{WHOLE}.weight'], state.get(f'{block}{WHOLE}.bias')
        if f'{block}{BRANCHES[0]}.weight' in state or bias is None:
            continue
        leaving, entering = weight.shape[:2]
        middle = weight.new_zeros(_WIDENING * leaving, _WIDENING * entering, 3, 3)
        middle[:leaving, :entering] = weight
        pass_on = torch.eye(_WIDENING * max(leaving, entering)).to(weight)[..., None, None]
        weights = (
            weight.new_zeros(leaving, entering, 1, 1),
            pass_on[: _WIDENING * entering, :entering],
            middle,
            pass_on[:leaving, : _WIDENING * leaving],
        )
        for name, one in zip(BRANCHES, weights, strict=True):
            complete |= {f'{block}{name}.weight': one.clone(), f'{block}{name}.bias': one.new_zeros(len(one))}
        complete[f'{block}{BRANCHES[-1]}.bias'] = bias
    return complete


def _blocks(state: Mapping[str, Tensor]) -> list[str]:
    """The prefixes of blocks, merged or not."""
    end = f'.{WHOLE}.weight'
    return [key.removesuffix(end[1:]) for key, value in state.items() if key.endswith(end) and value.dim() == 4]
