"""Attention of PyTorch's own modules, as sums that can be followed and written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def attention_in_parts() -> Iterator[None]:
    """Let ``nn.MultiheadAttention`` run as its parts within this block, as it does where it is trained.

    In eval mode it is one operator otherwise, which sums in another order and which no graph holds.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def has_fused_attention(net: nn.Module) -> bool:
    """Whether a network has modules that ``attention_in_parts`` is for."""
    return any(isinstance(module, nn.MultiheadAttention) for module in net.modules())
