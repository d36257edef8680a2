"""Feature losses: block outputs of student and teacher, compared in direction (AdaBM) or as attention maps (PTQ4SR)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dynq_basicsr.errors import DynqError


def tapped_modules(net: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """The modules whose outputs are compared.

    Args:
        net: The network.
        names: Names of modules. Lists of modules never run themselves: their members stand for them.
    """
    modules = dict(net.named_modules())
    return [module for name in names for module in _that_run(modules[name])]


def _that_run(module: nn.Module) -> list[nn.Module]:
    if isinstance(module, nn.ModuleList):
        return [inner for child in module for inner in _that_run(child)]
    if isinstance(module, nn.ModuleDict):
        return [inner for child in module.values() for inner in _that_run(child)]
    return [module]


def structure_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """L_skt: mean over taps and images of the distance between features of unit norm (AdaBM Eq. 10).

    Args:
        student: Features of the quantized network, each (N, ...).
        teacher: Features of the float network, of the same shapes.

    Returns:
        Scalar in [0, 2].

    Raises:
        DynqError: If there is no feature.
    """
    return _mean_over_taps(lambda *pair: _Distance.apply(*pair).mean(), student, teacher)


def attention_loss(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """Mean squared error between attention maps of unit norm, mean over taps (PTQ4SR's pixel-aware calibration).

    The map of an image holds, at each place, the mean over channels of the squared features. It has a gradient, as in
    the paper; the published code detaches it. A mean over places makes it small: at most 2 / (H W).

    Args:
        student: Features of the quantized network, each (N, C, H, W), or (N, L, C) tokens.
        teacher: Features of the float network, of the same shapes.

    Returns:
        Scalar.

    Raises:
        DynqError: If there is no feature.
    """
    return _mean_over_taps(
        lambda ours, theirs: nn.functional.mse_loss(_attention_map(ours), _attention_map(theirs)), student, teacher
    )


FEATURE_LOSSES = {'direction': structure_loss, 'attention': attention_loss}


def _mean_over_taps(
    loss: Callable[[Tensor, Tensor], Tensor], student: Sequence[Tensor], teacher: Sequence[Tensor]
) -> Tensor:
    if not student:
        raise DynqError(
            'No block that holds quantized layers ran as a module, so there are no features to match; name layers of '
            'other blocks in network_g.quantization.layers.'
        )
    return torch.stack([loss(*pair) for pair in zip(student, teacher, strict=True)]).mean()


def _attention_map(feature: Tensor) -> Tensor:
    """(N, places), each row of unit norm. Of the features, autograd keeps what it holds anyway: the rest is maps."""
    squares = feature.square().mean(dim=1 if feature.dim() == 4 else -1)
    return nn.functional.normalize(squares.flatten(1), eps=1e-12)


class _Distance(torch.autograd.Function):
    """|a / |a| - b / |b|| for each sample, with the gradient to a.

    Written out because autograd would keep several copies of every feature until the backward pass.
    """

    @staticmethod
    def forward(ctx, ours: Tensor, theirs: Tensor) -> Tensor:
        dims = tuple(range(1, ours.dim()))
        our_norm, their_norm = (
            torch.linalg.vector_norm(feature, dim=dims, keepdim=True).clamp(min=1e-12) for feature in (ours, theirs)
        )
        difference = (theirs / -their_norm).addcdiv_(ours, our_norm)
        distance = torch.linalg.vector_norm(difference, dim=dims, keepdim=True)
        ctx.save_for_backward(ours, theirs, our_norm, their_norm, distance)
        return distance.flatten()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        ours, theirs, our_norm, their_norm, distance = ctx.saved_tensors
        # with unit vectors p and q and d = |p - q|: the projection of p - q off p is p (1 - d^2 / 2) - q
        factor = grad.view_as(distance) / (our_norm * distance.clamp(min=1e-12))
        return torch.mul(ours, factor * (1 - distance.square() / 2) / our_norm).sub_(
            theirs * (factor / their_norm)
        ), None
