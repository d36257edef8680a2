"""A quantizer and the product behind it as one step of autograd, which keeps the quantizer's input alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.numerics.polyphase import pays


class Geometry(NamedTuple):
    """Of a convolution; None stands for a linear layer."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


def fuses(layer: nn.Conv2d | nn.Linear, x: Tensor, weight: Tensor) -> bool:
    """Whether ``multiply_quantized`` computes what the layer does: no padding mode of its own, no other algorithm."""
    if isinstance(layer, nn.Linear):
        return True
    plain = layer.padding_mode == 'zeros' and not isinstance(layer.padding, str)
    return plain and not (layer.groups == 1 and pays(x, weight, layer.stride, layer.padding, layer.dilation))


def multiply_quantized(
    layer: nn.Conv2d | nn.Linear,
    x: Tensor,
    grid: Tensor,
    gradient: str,
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """``numerics.matmul.multiply`` of ``fake_quantize(x, grid)``, with the same numbers and gradients.

    By themselves, the quantizer would keep its input for the backward pass and the product the quantized one: twice the
    activations of the float network. Here the quantized input is computed once more when the gradient is.

    Args:
        layer: Its geometry; one that ``fuses``.
        x: (N, ...), float.
        grid: (3, R), see ``fake_quantize``.
        gradient: Likewise.
        weight: Quantized, in ``dtype`` where one is given.
        bias: (C_out,) float; None: zero.
        dtype: Of the operands; None: x's.

    Returns:
        The result, in x's dtype.
    """
    geometry = None
    if isinstance(layer, nn.Conv2d):
        geometry = Geometry(layer.stride, layer.padding, layer.dilation, layer.groups)
    if dtype is not None:
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    result = _QuantizedProduct.apply(x, grid, weight, bias, gradient, dtype, geometry)
    return result if dtype is None else result.float()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry | None) -> Tensor:
    if geometry is None:
        return nn.functional.linear(x, weight, bias)
    return nn.functional.conv2d(x, weight, bias, *geometry)


class _QuantizedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, grid, weight, bias, gradient, dtype, geometry):
        ctx.save_for_backward(x, grid, weight)
        ctx.options = gradient, dtype, geometry, bias is not None
        return _product(fake_quantize(x, grid, gradient, dtype), weight, bias, geometry)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, grid, weight = ctx.saved_tensors
        gradient, dtype, geometry, has_bias = ctx.options
        need_x, need_grid, need_weight, need_bias, *_ = ctx.needs_input_grad
        quantized = fake_quantize(x, grid, gradient, dtype)
        wanted = [need_x or need_grid, need_weight, has_bias and need_bias]
        if geometry is None:
            grads = _linear_backward(grad, quantized, weight, wanted)
        else:
            sizes = [weight.shape[0]] if has_bias else None
            grads = torch.ops.aten.convolution_backward(
                grad, quantized, weight, sizes, *geometry[:3], False, [0, 0], geometry.groups, wanted
            )
        of_input, of_weight, of_bias = grads
        of_x = of_grid = None
        if wanted[0]:
            of_x, of_grid = torch.ops.dynq.fake_quantize_backward(of_input, x, grid, gradient)
        return (
            of_x if need_x else None,
            of_grid if need_grid else None,
            of_weight if need_weight else None,
            of_bias if wanted[2] else None,
            None,
            None,
            None,
        )


def _linear_backward(
    grad: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    rows = grad.reshape(-1, grad.shape[-1])
    return (
        grad @ weight if wanted[0] else None,
        rows.T @ x.reshape(-1, x.shape[-1]) if wanted[1] else None,
        rows.sum(0) if wanted[2] else None,
    )
