"""FAB and BitOPs as metrics of BasicSR's ``val.metrics``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynq_basicsr.errors import DynqError, check_keys, check_number, shown
from dynq_basicsr.quantization.usage import BitUsage

TERA = 1e12


# What BasicSR passes to every metric beside the options of this one.
_FOREIGN = ('img2', 'better')


def _require(usage: BitUsage | None, metric: str) -> BitUsage:
    if usage is None:
        raise DynqError(
            f'{metric}: this model reports no bits; use model_type QuantizedModel (it takes float networks too).'
        )
    return usage


def calculate_fab(img: np.ndarray, usage: BitUsage | None = None, weighting: str = 'patch', **kwargs) -> float:
    """Feature average bit-width of one image: mean over adaptive layers, then over patches (AdaBM, CADyQ).

    Args:
        img: The result, (H, W, C); not looked at.
        usage: Entered by ``QuantizedModel``.
        weighting: ``patch`` as in the papers, or ``area``.
        **kwargs: Nothing but what BasicSR passes to every metric.

    Returns:
        Bits; 32 for a float network.

    Raises:
        DynqError: If the model reports no bits.
    """
    check_keys('val.metrics, calculate_fab', kwargs, (*_FOREIGN, 'weighting'))
    if weighting not in ('patch', 'area'):
        raise DynqError(f'val.metrics: weighting of calculate_fab must be patch or area, not {shown(weighting)}.')
    return _require(usage, 'calculate_fab').fab(weighting)


def calculate_bitops(
    img: np.ndarray,
    usage: BitUsage | None = None,
    resolution: Sequence[int] | None = None,
    part: str = 'total',
    **kwargs,
) -> float:
    """BitOPs of one image, in tera: sum over layers of 2 * MACs * weight bits * activation bits, 32 * 32 where float.

    Additions of biases and activation functions count one float operation an element. At 1920 x 1080, a float EDSR x4
    comes to the 527.0T of AdaBM's Table 5.

    Args:
        img: The result, (H, W, C).
        usage: Entered by ``QuantizedModel``.
        resolution: [width, height] of an output to state the cost for, at this image's bits; None: this very image,
            overlapping pixels counted twice.
        part: ``total``, ``quantized`` layers or ``float`` remainder.
        **kwargs: Nothing but what BasicSR passes to every metric.

    Raises:
        DynqError: If the model reports no bits, or an option is wrong.
    """
    check_keys('val.metrics, calculate_bitops', kwargs, (*_FOREIGN, 'resolution', 'part'))
    usage = _require(usage, 'calculate_bitops')
    pixels = None
    if resolution is not None:
        if not isinstance(resolution, list | tuple) or len(resolution) != 2:
            what = 'resolution of calculate_bitops must be [width, height]'
            raise DynqError(f'val.metrics: {what}, not {shown(resolution)}.')
        for side in resolution:
            check_number('val.metrics: resolution of calculate_bitops', side, 1)
        scale = img.shape[0] / usage.height
        pixels = resolution[0] * resolution[1] / scale**2
    quantized, floating = usage.bitops(pixels)
    parts = {'total': quantized + floating, 'quantized': quantized, 'float': floating}
    if part not in parts:
        raise DynqError(f'val.metrics: part of calculate_bitops must be one of {", ".join(parts)}, not {shown(part)}.')
    return parts[part] / TERA
