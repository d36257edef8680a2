"""AdaBM's policy: base bits plus an image factor plus a layer factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dynq_basicsr.errors import DynqError, check_number, check_switch
from dynq_basicsr.policies.base import AdaptiveBody, BitPolicy
from dynq_basicsr.policies.complexity import gradient_density
from dynq_basicsr.quantization.context import Decision

# Smallest distance between neighbouring complexity thresholds, in units of ``gradient_density``.
MIN_GAP = 0.1


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard`` with the gradient of ``soft``."""
    return soft + (hard - soft).detach()


class ImageLayerPolicy(BitPolicy):
    """b(j, k) = b_base + b_I(j) + b_L(k), clamped to the stated range (AdaBM Eq. 3).

    The image-to-bit map compares the image's gradient density with learned thresholds (Eq. 4, 5); the layer-to-bit map
    is one learned number per layer, rounded to {-1, 0, 1} (Eq. 7). Hard decisions forward, tanh surrogates backward.

    Args:
        body: Number of adaptive layers, base bits, and the range that bits are clamped to.
        image_to_bit: False: every image gets factor 0.
        layer_to_bit: False: every layer gets factor 0.
        image_factors: Ascending factors, flattest images first.
        image_percentile: Percentile of calibration complexities below which an image gets the lowest factor; 100 minus
            it, above which it gets the highest.
        layer_percentile: The same for the sensitivities of layers.
    """

    def __init__(
        self,
        body: AdaptiveBody,
        image_to_bit: bool = True,
        layer_to_bit: bool = True,
        image_factors: Sequence[int] = (-1, 0, 1),
        image_percentile: float = 10,
        layer_percentile: float = 30,
    ) -> None:
        super().__init__()
        for key, value in (('image_percentile', image_percentile), ('layer_percentile', layer_percentile)):
            check_number(f'network_g.policy.{key}', value, 0, 49)
        for key, value in (('image_to_bit', image_to_bit), ('layer_to_bit', layer_to_bit)):
            check_switch(f'network_g.policy.{key}', value)
        factors = list(image_factors) if isinstance(image_factors, list | tuple) else []
        for factor in factors:
            check_number('network_g.policy.image_factors', factor, -8, 8, whole=True)
        if len(factors) < 2 or factors != sorted(set(factors)):
            raise DynqError(
                f'network_g.policy.image_factors: give at least two ascending factors, not {image_factors}.'
            )
        self.base = float(body.activation.bits)
        self.bits_range = body.activation.bits_range
        self.image_to_bit, self.layer_to_bit = image_to_bit, layer_to_bit
        self.image_percentile, self.layer_percentile = image_percentile, layer_percentile
        self.register_buffer('image_factors', torch.tensor(factors, dtype=torch.float32), persistent=False)
        self.thresholds = nn.Parameter(torch.arange(len(factors) - 1, dtype=torch.float32))
        self.layer_factors = nn.Parameter(torch.zeros(body.num_layers))

    def ordered_thresholds(self) -> Tensor:
        """Complexity thresholds, ascending by construction and at least ``MIN_GAP`` apart."""
        ordered = [self.thresholds[0]]
        for threshold in self.thresholds[1:]:
            ordered.append(torch.maximum(threshold, ordered[-1] + MIN_GAP))
        return torch.stack(ordered)

    def image_bits(self, complexity: Tensor) -> Tensor:
        """Image factor b_I for each complexity, (N,) -> (N,).

        The surrogate is a tanh through the middle of the outer thresholds with slope 2 / (u - l), the published code's
        correction of the paper's Eq. 5, scaled to the outer factors.
        """
        if not self.image_to_bit:
            return torch.zeros_like(complexity)
        thresholds, factors = self.ordered_thresholds(), self.image_factors
        # on a threshold, the factor nearer to the middle: l <= c <= u gives 0
        lower_half, upper_half = thresholds.detach().split(
            [len(thresholds) // 2, len(thresholds) - len(thresholds) // 2]
        )
        hard = factors[torch.bucketize(complexity, lower_half, right=True) + torch.bucketize(complexity, upper_half)]
        lower, upper = thresholds[0], thresholds[-1]
        width = (upper - lower) if len(thresholds) > 1 else lower.detach().clamp(min=MIN_GAP)
        position = torch.tanh((complexity - (upper + lower) / 2) * 2 / width)
        soft = factors[0] + (factors[-1] - factors[0]) * (position + 1) / 2
        return straight_through(hard, soft)

    def layer_bits(self) -> Tensor:
        """Layer factors b_L, (K,)."""
        if not self.layer_to_bit:
            return torch.zeros_like(self.layer_factors)
        return straight_through(self.layer_factors.clamp(-1, 1).round(), torch.tanh(self.layer_factors))

    def clamp(self, bits: Tensor) -> Tensor:
        """Clamp bits to the stated range."""
        return bits.clamp(*self.bits_range)

    @property
    def candidates(self) -> tuple[int, ...]:
        """Base bits plus an image factor plus -1, 0 or 1, within the stated range."""
        low, high = self.bits_range
        images = self.image_factors.int().tolist() if self.image_to_bit else [0]
        layers = [-1, 0, 1] if self.layer_to_bit else [0]
        bits = {int(self.base) + image + layer for image in images for layer in layers}
        return tuple(sorted({min(max(one, low), high) for one in bits}))

    def decide(self, image: Tensor, shallow: Callable[[], Tensor]) -> Decision:
        """Fix the image factors; each layer then adds its own."""
        image_bits = self.image_bits(gradient_density(image))
        layer_bits = self.layer_bits().unbind()
        return lambda index, x: self.clamp(self.base + image_bits + layer_bits[index])

    def learned(self) -> dict[str, list[nn.Parameter]]:
        """Layer factors and complexity thresholds, those that are in use."""
        kinds = {'layer': (self.layer_to_bit, self.layer_factors), 'image': (self.image_to_bit, self.thresholds)}
        return {kind: [parameter] for kind, (used, parameter) in kinds.items() if used}

    @torch.no_grad()
    def calibrate(self, complexities: Tensor, sensitivities: Tensor) -> None:
        """Initialise both maps from calibration statistics.

        Args:
            complexities: Gradient density of each calibration patch, (n,).
            sensitivities: Mean standard deviation of each layer's input, (K,).
        """
        low = self.image_percentile / 100
        quantiles = torch.linspace(low, 1 - low, len(self.thresholds), dtype=torch.float64)
        if len(quantiles) == 1:
            quantiles[:] = 0.5
        self.thresholds.copy_(torch.quantile(complexities.double(), quantiles))
        self.thresholds.copy_(self.ordered_thresholds())
        low = self.layer_percentile / 100
        bounds = torch.quantile(sensitivities.double(), torch.tensor([low, 1 - low], dtype=torch.float64))
        self.layer_factors.copy_((sensitivities > bounds[1]).float() - (sensitivities < bounds[0]).float())
