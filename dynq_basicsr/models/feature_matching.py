"""AdaBM's feature loss: block outputs of student and teacher, compared in direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class FeatureTaps:
    """Reads the outputs of some modules.

    Args:
        net: The network.
        names: Names of the modules whose outputs to read.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        modules = dict(net.named_modules())
        self.modules = [modules[name] for name in names]

    @contextmanager
    def reading(self) -> Iterator[list[Tensor]]:
        """Collect the outputs, in order of execution, of the forwards within this block."""
        features: list[Tensor] = []
        hooks = [
            module.register_forward_hook(lambda module, inputs, output: features.append(output))
            for module in self.modules
        ]
        try:
            yield features
        finally:
            for hook in hooks:
                hook.remove()


def structure_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """L_skt: mean over taps and images of the distance between features of unit norm (AdaBM Eq. 10).

    Args:
        student: Features of the quantized network, each (N, ...).
        teacher: Features of the float network, of the same shapes.

    Returns:
        Scalar in [0, 2].
    """
    # checkpoint: normalized copies of every feature would stay until the backward pass otherwise
    distances = [
        checkpoint(_distance, ours, theirs, use_reentrant=False) for ours, theirs in zip(student, teacher, strict=True)
    ]
    return torch.stack(distances).mean()


def _distance(ours: Tensor, theirs: Tensor) -> Tensor:
    dims = tuple(range(1, ours.dim()))
    return torch.linalg.vector_norm(_unit(ours, dims) - _unit(theirs, dims), dim=dims).mean()


def _unit(feature: Tensor, dims: tuple[int, ...]) -> Tensor:
    return feature / torch.linalg.vector_norm(feature, dim=dims, keepdim=True).clamp(min=1e-12)
