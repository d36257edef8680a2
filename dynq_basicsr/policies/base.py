"""The protocol of bit policies: one question, the bits of this layer for these samples."""

from __future__ import annotations

from torch import Tensor, nn

from dynq_basicsr.quantization.context import Decision


class BitPolicy(nn.Module):
    """Decides the activation bit-widths of adaptive layers.

    A policy is part of the network: its parameters are learned, saved and counted with it.
    """

    def decide(self, image: Tensor) -> Decision:
        """Look at the images and return who answers the layers during this forward.

        Args:
            image: (N, C, H, W) in [0, 1].

        Returns:
            A callable of (layer index, layer input (N, ...)) that gives bits, (N,) or a number.
        """
        raise NotImplementedError

    def learned(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that fine-tuning learns, by kind (``layer``, ``image``: each has its own learning rate)."""
        return {}
