"""The static policy: the same bits for every image and layer."""

from __future__ import annotations

from torch import Tensor

from dynq_basicsr.policies.base import BitPolicy
from dynq_basicsr.quantization.context import Decision
from dynq_basicsr.quantization.options import ActivationOptions


class FixedPolicy(BitPolicy):
    """Every layer gets the base bits.

    Args:
        num_layers: Number of adaptive layers.
        activation: Holds the base bits.
    """

    def __init__(self, num_layers: int, activation: ActivationOptions) -> None:
        super().__init__()
        self.bits = float(activation.bits)

    def decide(self, image: Tensor) -> Decision:
        """Answer the base bits, whatever the image."""
        return lambda index, x: self.bits
