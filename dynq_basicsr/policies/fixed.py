"""The static policy: the same bits for every image and layer."""

from __future__ import annotations

import torch
from torch import Tensor

from dynq_basicsr.config.policies import FixedOptions
from dynq_basicsr.policies.base import POLICIES, AdaptiveBody, BitPolicy


@POLICIES.register('Fixed')
class FixedPolicy(BitPolicy):
    """Every layer gets the base bits."""

    options_type = FixedOptions

    def __init__(self, body: AdaptiveBody, options: FixedOptions | None = None) -> None:
        super().__init__(body)

    @property
    def candidates(self) -> tuple[int, ...]:
        """The base bits."""
        return (int(self.base),)

    def decide(self, image: Tensor, shallow: Tensor | None) -> Tensor:
        """Answer the base bits, whatever the image."""
        return torch.full((self.num_layers, 1), self.base, device=image.device)

    def bit_configs(self) -> dict[str, tuple[float, ...]]:
        """One assignment."""
        return {f'a{int(self.base)}': (self.base,) * self.num_layers}

    def runtime_spec(self) -> dict[str, object]:
        """Always that one."""
        return {'type': 'fixed', 'code': f'a{int(self.base)}'}
