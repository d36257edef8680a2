"""The static policy: the same bits for every image and layer."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dynq_basicsr.policies.base import AdaptiveBody, BitPolicy
from dynq_basicsr.quantization.context import Decision


class FixedPolicy(BitPolicy):
    """Every layer gets the base bits.

    Args:
        body: Holds the base bits.
    """

    def __init__(self, body: AdaptiveBody) -> None:
        super().__init__()
        self.bits = body.activation.bits

    @property
    def candidates(self) -> tuple[int, ...]:
        """The base bits."""
        return (self.bits,)

    def decide(self, image: Tensor, shallow: Callable[[], Tensor]) -> Decision:
        """Answer the base bits, whatever the image."""
        return lambda index, x: float(self.bits)
