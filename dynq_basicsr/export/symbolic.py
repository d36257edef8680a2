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
    register_custom_op_symbolic('aten::tensor_split', _split_at, OPSET)


def _enlarge_bicubic(g, x, size, align_corners, factors):
    """Antialiased bicubic enlargement: the kernel with a = -0.5, and antialiasing does nothing.

    Networks enlarge by whole factors (``archs.idn_arch.upsample_bicubic``); PyTorch's weights at the border are
    normalised, hence ``exclude_outside``.
    """
    from torch.onnx import symbolic_helper

    factors = symbolic_helper._maybe_get_const(factors, 'fs')
    if not isinstance(factors, list) or min(factors) < 1:
        return symbolic_helper._unimplemented('_upsample_bicubic2d_aa', 'other than enlarging by constant factors')
    empty = g.op('Constant', value_t=torch.tensor([], dtype=torch.float32))
    scale = g.op('Constant', value_t=torch.tensor([1.0, 1.0, *factors]))
    return g.op(
        'Resize', x, empty, scale, mode_s='cubic', cubic_coeff_a_f=-0.5, exclude_outside_i=1,
        coordinate_transformation_mode_s='half_pixel',
    )  # fmt: skip


def _split_at(g, x, indices, dim, _outputs=None):
    """``tensor_split`` at constant places, as slices; the exporter itself writes a loop."""
    from torch.onnx import symbolic_helper

    places, dim = (symbolic_helper._maybe_get_const(value, kind) for value, kind in ((indices, 'is'), (dim, 'i')))
    if not isinstance(places, list):
        return symbolic_helper._unimplemented('tensor_split', 'other than at constant places')
    ends = [*places, torch.iinfo(torch.int64).max]
    axis = g.op('Constant', value_t=torch.tensor([dim]))
    parts = [
        g.op('Slice', x, *(g.op('Constant', value_t=torch.tensor([place])) for place in span), axis)
        for span in zip([0, *places], ends, strict=True)
    ]
    return parts if _outputs else g.op('prim::ListConstruct', *parts)
