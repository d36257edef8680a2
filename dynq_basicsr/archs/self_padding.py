"""Networks that pad their images themselves, to multiples that nobody else would know of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dynq_basicsr.archs.padding import SizeRequirement
from dynq_basicsr.quantization.data_flow import evaluating

# The greatest common divisor of what these sides are padded to is the multiple; 768 is one of nearly all multiples.
_SIDES, _UNPADDED = (97, 113, 129, 145), 768


class _Seen(Exception):
    """The first convolution is about to run: nothing behind it matters."""


def own_multiple(net: nn.Module, channels: int, sizes: SizeRequirement) -> int:
    """To multiples of what a network pads the sides of its images before its first convolution; 1: it does not.

    If its images come padded, nothing in its ONNX graph depends on whether a side is such a multiple.

    Args:
        net: A float network; stays as it is.
        channels: Of its images.
        sizes: What sides it takes.
    """
    seen: list[int] = []

    def look(module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0].shape[2])
        raise _Seen

    like = next(net.parameters(), torch.zeros(()))
    hooks = [module.register_forward_pre_hook(look) for module in net.modules() if isinstance(module, nn.Conv2d)]
    given = [sizes.padded(side) for side in (*_SIDES, _UNPADDED)]
    try:
        with evaluating(net), torch.no_grad():
            for side in given:
                try:
                    net(like.new_zeros(1, channels, side, side))
                except _Seen:
                    pass
    except Exception:  # whatever a stranger's code raises
        return 1
    finally:
        for hook in hooks:
            hook.remove()
    return _multiple(given, seen)


def _multiple(given: list[int], seen: list[int]) -> int:
    """The multiple, of the sides of the images and of the first convolution's inputs; of the last ones nothing is."""
    if len(seen) != len(given) or given[-1] % seen[-1]:
        return 1
    shrunk = given[-1] // seen[-1]  # pixels that went into channels
    padded = [side * shrunk for side in seen]
    if padded == given or any(after < before for before, after in zip(given, padded, strict=True)):
        return 1
    multiple = math.gcd(*padded)
    return multiple if all(after - before < multiple for before, after in zip(given, padded, strict=True)) else 1
