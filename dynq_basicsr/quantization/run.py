"""One forward of a quantized network: how it computes, and what its layers use."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Mode(str, Enum):
    """How a quantized network computes.

    Attributes:
        FLOAT: As the float backbone, bit for bit where operands are not cast.
        TRAINING: Fake quantization, differentiable; sums are rounded as float32 or the matmul precision has it.
        EXACT: Integers, whose sums float32 holds exactly: what an integer graph computes, without a gradient.
    """

    FLOAT = 'float'
    TRAINING = 'training'
    EXACT = 'exact'


class Details(NamedTuple):
    """What a forward tells on request.

    Attributes:
        output: (N, C, scale * H, scale * W).
        bits: Of each adaptive layer, (K, N), or (K, 1) where they hold for all; with the gradient to the policy.
        features: Outputs of the modules that ``QuantizedSR.tap`` named, in order of execution.
    """

    output: Tensor
    bits: Tensor
    features: tuple[Tensor, ...]


class Run:
    """One forward; made when it begins, and known to the layers while it lasts.

    Args:
        mode: How it computes.
        matmul_dtype: What operands of convolutions and linear layers are cast to; None: as they come.
        layers: Number of quantized layers.

    Attributes:
        grids: (3, R) of each quantized layer's input, by its position; None: not known yet, or float.
        weights: Quantized weight of each layer; None: the layer's own affair.
        decide: Bits (N,) for a layer and its input where the policy looks at that; None: grids are known by then.
        on_shallow: Told of the shallow feature, once.
        bits: Of the adaptive layers, by index, as far as they are known.
        features: Outputs of tapped modules; None: nobody asks.
    """

    def __init__(self, mode: Mode, matmul_dtype: torch.dtype | None = None, layers: int = 0) -> None:
        self.mode, self.matmul_dtype = mode, matmul_dtype
        self.grids: list[Tensor | None] = [None] * layers
        self.weights: list[Tensor | None] = [None] * layers
        self.decide: Callable[[int, Tensor], Tensor] | None = None
        self.on_shallow: Callable[[Tensor], None] | None = None
        self.bits: dict[int, Tensor] = {}
        self.features: list[Tensor] | None = None


class RunHolder:
    """Where the layers of one network find the run that they are part of.

    Backbones call their layers themselves and pass nothing on, so the run lies here during a forward and nowhere
    afterwards. Activation checkpointing calls blocks once more in the backward pass: ``stay_for_backward`` lays the run
    of that forward here meanwhile.

    Attributes:
        run: The run; None outside of a forward, where the backbone is the float network.
    """

    def __init__(self) -> None:
        self.run: Run | None = None

    def stay_for_backward(self, *results: Tensor) -> None:
        """Bring the run back when the backward pass of its results begins, whichever a loss is of, until it ends."""
        run = self.run
        if run is None:
            return

        def resume(gradient: Tensor) -> None:
            self.run = run
            # As FSDP and DDP do it: autograd has no other way to say that a backward pass is over.
            torch.autograd.Variable._execution_engine.queue_callback(self.clear)

        for one in results:
            if one.requires_grad:
                one.register_hook(resume)

    def clear(self) -> None:
        """Forget the run."""
        self.run = None

    # Forward hooks are methods, so that a deep copy of the network hooks a holder of its own.
    def see_shallow(self, head: nn.Module, inputs: tuple, output: Tensor) -> None:
        """Forward hook of the head: the policy decides by its output."""
        run = self.run
        if run is not None and run.on_shallow is not None:
            decide, run.on_shallow = run.on_shallow, None
            # a copy where there is a gradient: the activation behind the head may work in place
            decide(output.clone() if output.requires_grad else output)

    def see_feature(self, module: nn.Module, inputs: tuple, output: Tensor | tuple) -> None:
        """Forward hook of a tapped module."""
        run = self.run
        if run is not None and run.features is not None:
            run.features.append(output if isinstance(output, Tensor) else output[0])
