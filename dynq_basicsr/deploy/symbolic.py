"""How torch's tracing exporter writes what it does not know, or knows in a slow form."""

from __future__ import annotations

import functools

import torch
from torch.onnx import register_custom_op_symbolic

OPSET = 18


@functools.cache
def register_symbolics() -> None:
    """Tell the exporter of our operators, once."""
    register_custom_op_symbolic('aten::_upsample_bicubic2d_aa', _enlarge_bicubic, OPSET)


def _enlarge_bicubic(g, x, size, align_corners, *scales):
    """Antialiased bicubic enlargement: the kernel with a = -0.5, and antialiasing does nothing.

    Networks enlarge by whole factors (``archs.idn_arch.upsample_bicubic``); PyTorch's weights at the border are
    normalised, hence ``exclude_outside``.
    """
    from torch.onnx import symbolic_helper

    factors = [symbolic_helper._maybe_get_const(scale, 'f') for scale in scales[-2:]]
    if not all(isinstance(factor, float) and factor >= 1 for factor in factors):
        return symbolic_helper._unimplemented('_upsample_bicubic2d_aa', 'other than enlarging by a constant factor')
    empty = g.op('Constant', value_t=torch.tensor([], dtype=torch.float32))
    scale = g.op('Constant', value_t=torch.tensor([1.0, 1.0, *factors]))
    return g.op(
        'Resize', x, empty, scale, mode_s='cubic', cubic_coeff_a_f=-0.5, exclude_outside_i=1,
        coordinate_transformation_mode_s='half_pixel',
    )  # fmt: skip
