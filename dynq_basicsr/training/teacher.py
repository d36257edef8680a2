"""The float network as the teacher of its quantized self."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dynq_basicsr.quantization.run import Details


class Teacher:
    """Runs the float network: outputs and features to match.

    Args:
        run: From images (N, C, H, W) in [0, 1] to what the float network makes of them.
        remember: Keep what was found for each image, so that the float network runs once an image. Only where an image
            has one crop, and for as much memory as output and features of all images take (SRResNet, 100 patches of
            64 x 64 in bfloat16: 0.9 GB).
    """

    def __init__(self, run: Callable[[Tensor], Details], remember: bool = False) -> None:
        self.run, self.remember = run, remember
        self._known: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor, names: Sequence[str]) -> tuple[Tensor, Sequence[Tensor]]:
        """Targets of a batch.

        Args:
            images: (N, C, H, W) in [0, 1].
            names: Of the images; without ``remember`` they do not matter.

        Returns:
            Output (N, C, sH, sW), and the features.
        """
        if not self.remember:
            return self._run(images)
        if any(name not in self._known for name in names):
            output, features = self._run(images)
            for index, name in enumerate(names):
                self._known[name] = [one[index : index + 1].clone() for one in (output, *features)]
            return output, features
        output, *features = map(torch.cat, zip(*(self._known[name] for name in names), strict=True))
        return output, features

    def _run(self, images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        output, _, features = self.run(images)
        return output, features
