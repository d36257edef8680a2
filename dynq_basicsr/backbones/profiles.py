"""One profile per architecture: what the wrapper must know of a backbone, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneProfile:
    """What the wrapper knows of an architecture.

    Attributes:
        body: Patterns of the layers whose activations adapt (see ``quantization.selection.select_layers``).
        float_ends: The first and the last layer matched are head and tail, and stay float.
        multiple: Of what the sides of an image must be multiples, in pixels, from a function that looks options up.
    """

    body: tuple[str, ...]
    float_ends: bool = False
    multiple: Callable[[Callable[[str], int]], int] = lambda option: 1


# Two convolutions a residual block, everything outside the blocks float: AdaBM's setting that is not "fully quantized".
_RESIDUAL_BLOCKS = BackboneProfile(body=(r're:body\.\d+\.conv[12]',))

PROFILES: dict[str, BackboneProfile] = {
    'EDSR': _RESIDUAL_BLOCKS,
    'MSRResNet': _RESIDUAL_BLOCKS,
    'SRResNetBN': _RESIDUAL_BLOCKS,
    # Channel attention stays float, as in CADyQ's and Granular-DQ's networks; so does the convolution after each group.
    'RCAN': BackboneProfile(body=(r're:body\.\d+\.residual_group\.\d+\.rcab\.[02]',)),
    # Below x4, RRDBNet begins with a pixel unshuffle.
    'RRDBNet': BackboneProfile(
        body=(r're:body\.\d+\.rdb\d\.conv\d',), multiple=lambda option: max(4 // option('scale'), 1)
    ),
    # Granular-DQ, supplement: the MLPs' linear layers are quantized, attention stays float.
    'SwinIR': BackboneProfile(
        body=(r're:layers\.\d+\.residual_group\.blocks\.\d+\.mlp\.fc[12]',),
        multiple=lambda option: option('window_size'),
    ),
    'SRVGGNetCompact': BackboneProfile(body=(r're:body\.\d+',), float_ends=True),
}
