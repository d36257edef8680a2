"""The protocol of bit policies: one question, the bits of this layer for these samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from dynq_basicsr.quantization.context import Decision
from dynq_basicsr.quantization.options import ActivationOptions


@dataclass(frozen=True)
class AdaptiveBody:
    """What a policy is told of the network whose bits it decides.

    Attributes:
        num_layers: Number of adaptive layers.
        activation: Base bits and the range that adaptive bits are clamped to.
        shallow_channels: Channels of the shallow feature, the output of the first convolution.
    """

    num_layers: int
    activation: ActivationOptions
    shallow_channels: int = 0


class BitPolicy(nn.Module):
    """Decides the activation bit-widths of adaptive layers.

    A policy is part of the network: its parameters are learned, saved and counted with it.

    Attributes:
        needs_shallow: Whether it looks at the shallow feature.
    """

    needs_shallow = False

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every bit-width that it can choose, ascending."""
        raise NotImplementedError

    def decide(self, image: Tensor, shallow: Callable[[], Tensor]) -> Decision:
        """Look at the images and return who answers the layers during this forward.

        Args:
            image: (N, C, H, W) in [0, 1].
            shallow: Gives the shallow feature (N, C', H, W) of the forward in progress, once a layer asks.

        Returns:
            A callable of (layer index, layer input (N, ...)) that gives bits, (N,) or a number.
        """
        raise NotImplementedError

    def learned(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that fine-tuning learns, by kind (``layer``, ``image``: each has its own learning rate)."""
        return {}
