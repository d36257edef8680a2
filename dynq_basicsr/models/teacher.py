"""The float network as the teacher of its quantized self."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.models.feature_matching import FeatureTaps


class Teacher:
    """Runs the network with its quantizers switched off: outputs and features to match.

    Args:
        network: The quantized network.
        taps: Its features.
        remember: Keep what was found for each image, so that the float network runs once an image. Only where an image
            has one crop, and for as much memory as output and features of all images take (SRResNet, 100 patches of
            64 x 64 in bfloat16: 0.9 GB).
    """

    def __init__(self, network: QuantizedSR, taps: FeatureTaps, remember: bool = False) -> None:
        self.network, self.taps, self.remember = network, taps, remember
        self._known: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def __call__(
        self, run: Callable[[Tensor], Tensor], images: Tensor, names: Sequence[str]
    ) -> tuple[Tensor, list[Tensor]]:
        """Targets of a batch.

        Args:
            run: The network, or what wraps it for parallel training.
            images: (N, C, H, W) in [0, 1].
            names: Of the images; without ``remember`` they do not matter.

        Returns:
            Output (N, C, sH, sW), and the features.
        """
        if not self.remember:
            return self._run(run, images)
        if any(name not in self._known for name in names):
            output, features = self._run(run, images)
            for index, name in enumerate(names):
                self._known[name] = [one[index : index + 1].clone() for one in (output, *features)]
            return output, features
        output, *features = map(torch.cat, zip(*(self._known[name] for name in names), strict=True))
        return output, features

    def _run(self, run: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, list[Tensor]]:
        with self.network.floating(), self.taps.reading() as features:
            return run(images), features
