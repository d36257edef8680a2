"""What quantized layers share during one forward: who decides their bits, and what was decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

# A decision answers, for the k-th adaptive layer and its input (N, ...): the bits of each sample, (N,) or a number.
Decision = Callable[[int, Tensor], Tensor | float]


@dataclass
class BitTrace:
    """The bits that one forward used.

    Attributes:
        bits: Adaptive layer -> bits per sample, (N,), or a number that holds for all of them.
        static: Static layer -> its bits.
    """

    bits: dict[str, Tensor | float] = field(default_factory=dict)
    static: dict[str, float] = field(default_factory=dict)

    def mean(self) -> Tensor:
        """Mean bits over adaptive layers, then samples: a scalar, with the gradient to the bits."""
        return torch.stack([torch.as_tensor(bits, dtype=torch.float32).mean() for bits in self.bits.values()]).mean()


class BitContext:
    """Shared by all quantized layers of one network; threads nothing through the backbone's forward.

    Attributes:
        quantizing: False makes every quantized layer behave as the float layer it was, bit for bit.
        decision: The policy's answer for the forward in progress.
        shallow: Output of the backbone's first convolution in this forward, once it ran (see ``look``).
        trace: Filled by the layers while it is set.
    """

    def __init__(self) -> None:
        self.quantizing = True
        self.decision: Decision | None = None
        self.shallow: Tensor | None = None
        self.trace: BitTrace | None = None

    def look(self, head: nn.Module, inputs: tuple, output: Tensor) -> None:
        """Forward hook of the first convolution; a method, so that a deep copy of the network hooks its own context."""
        if self.decision is not None:
            self.shallow = output

    @property
    def exact(self) -> bool:
        """Whether sums are to be exact, so that no order of summation decides a rounding: without gradients."""
        return self.quantizing and not torch.is_grad_enabled()

    @contextmanager
    def deciding(self, decision: Decision) -> Iterator[None]:
        """Let ``decision`` answer the layers within this block."""
        self.decision = decision
        try:
            yield
        finally:
            self.decision = self.shallow = None

    @contextmanager
    def floating(self) -> Iterator[None]:
        """Switch quantization off within this block."""
        before, self.quantizing = self.quantizing, False
        try:
            yield
        finally:
            self.quantizing = before

    @contextmanager
    def tracing(self) -> Iterator[BitTrace]:
        """Record the bits that the layers use within this block."""
        before, self.trace = self.trace, BitTrace()
        try:
            yield self.trace
        finally:
            self.trace = before
