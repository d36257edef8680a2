"""Activation checkpointing of backbones that have an option for it, in a way that quantization can live with."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class Checkpointed:
    """A block whose activations are computed once more in the backward pass; mixed into the block's class.

    Without reentrance: the quantization grids of all layers come from one table, whose graph a reentrant checkpoint
    would go through once for each block.
    """

    def forward(self, *args, **kwargs):
        """As the plain block's."""
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        return checkpoint(super().forward, *args, use_reentrant=False, **kwargs)


@cache
def _checkpointed(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f'Checkpointed{kind.__name__}', (Checkpointed, kind), {})


def keep_activation_checkpoints(backbone: nn.Module) -> None:
    """Take over from a backbone what its option ``use_checkpoint`` asks for, in place.

    SwinIR's own call leaves out an argument of its blocks and is reentrant; HAT's option has no effect.

    Args:
        backbone: Any; modules whose ``use_checkpoint`` is true have their ``blocks`` checkpointed.
    """
    for module in backbone.modules():
        if getattr(module, 'use_checkpoint', False) and isinstance(getattr(module, 'blocks', None), nn.ModuleList):
            module.use_checkpoint = False
            for block in module.blocks:
                block.__class__ = _checkpointed(type(block))
