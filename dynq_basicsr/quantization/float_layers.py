"""Float layers of a quantized network: in the precision of the run, or with sums in float64 where that is exact."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from dynq_basicsr.numerics.float64 import convolve_in_float64, has_float64
from dynq_basicsr.numerics.matmul import multiply
from dynq_basicsr.quantization.run import Mode, RunHolder


class FloatLayer:
    """What float convolutions and linear layers have in common; mixed into the float class.

    Attributes:
        name: The module's name in the backbone.
        holder: Shared with the quantized layers of the network.
        float64: Whether quantized layers read what it computes, so that it sums in float64 where the mode is exact.
            What float32 sums in another order differs in the last place, which decides about one in a million
            roundings, and at few bits one changed level changes much.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, ...) to the plain layer's result; anything but float32, and devices without float64, as they are."""
        run = self.holder.run
        if run is None or (run.mode is Mode.FLOAT and run.matmul_dtype is None):
            return super().forward(x)
        if self.float64 and run.mode is Mode.EXACT and x.dtype == torch.float32 and has_float64(x.device):
            return self._in_float64(x)
        return multiply(self, x, self.weight, self.bias, run.matmul_dtype)


class FloatConv2d(FloatLayer, nn.Conv2d):
    """``nn.Conv2d`` in the precision of the run."""

    def _in_float64(self, x: Tensor) -> Tensor:
        return convolve_in_float64(self, x)


class FloatLinear(FloatLayer, nn.Linear):
    """``nn.Linear`` in the precision of the run."""


FLOAT_CLASSES = {nn.Conv2d: FloatConv2d, nn.Linear: FloatLinear}


class Float64Module:
    """A module without parameters ahead of quantized layers, which sums in float64; mixed into the module's class.

    Attributes:
        name: The module's name in the backbone.
        holder: Shared with the quantized layers of the network.
    """

    def forward(self, x: Tensor) -> Tensor:
        """As the plain module's; anything but float32, and devices without float64, as they are."""
        run = self.holder.run
        exact = run is not None and run.mode is Mode.EXACT
        if not exact or x.dtype != torch.float32 or not has_float64(x.device):
            return super().forward(x)
        return super().forward(x.double()).float()


@cache
def _float64_class(kind: type[nn.Module]) -> type[nn.Module]:
    return type(f'Float64{kind.__name__}', (Float64Module, kind), {})


def adapt_float_module(module: nn.Module, name: str, holder: RunHolder, float64: bool = False) -> None:
    """Turn a float module into its twin that heeds the run, in place.

    Args:
        module: An ``nn.Conv2d`` or ``nn.Linear``, or, with ``float64``, any module without parameters.
        name: Its name in the backbone.
        holder: Where it finds the run that it is part of.
        float64: Whether it sums in float64 where the mode is exact.
    """
    kind = FLOAT_CLASSES.get(type(module))
    module.__class__ = kind or _float64_class(type(module))
    module.name, module.holder, module.float64 = name, holder, float64
