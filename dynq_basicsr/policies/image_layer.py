"""AdaBM's policy: base bits plus an image factor plus a layer factor."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynq_basicsr.config.policies import AdaBMPolicyOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.base import (
    POLICIES,
    AdaptiveBody,
    BitBudget,
    BitPolicy,
    CalibrationStatistics,
    ParameterGroup,
)
from dynq_basicsr.policies.complexity import gradient_density

# Smallest distance between neighbouring complexity thresholds, in units of ``gradient_density``.
MIN_GAP = 0.1


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard`` with the gradient of ``soft``."""
    return soft + (hard - soft).detach()


@POLICIES.register('AdaBM')
class ImageLayerPolicy(BitPolicy):
    """b(j, k) = b_base + b_I(j) + b_L(k), clamped to the stated range (AdaBM Eq. 2).

    The image-to-bit map compares the image's gradient density with learned thresholds (Eq. 3); the layer-to-bit map
    is one learned number per layer, rounded to {-1, 0, 1} (Eq. 4). Hard decisions forward, tanh surrogates backward.

    Args:
        body: Number of adaptive layers, base bits, and the range that bits are clamped to.
        options: Factors, and percentiles of calibration.
    """

    options_type = AdaBMPolicyOptions

    def __init__(self, body: AdaptiveBody, options: AdaBMPolicyOptions | None = None) -> None:
        super().__init__(body)
        options = options or AdaBMPolicyOptions()
        factors = options.image_factors
        self.bits_range = body.activation.bits_range
        self.image_to_bit, self.layer_to_bit = options.image_to_bit, options.layer_to_bit
        self.image_percentile, self.layer_percentile = options.image_percentile, options.layer_percentile
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
        correction of the paper's Eq. 7, scaled to the outer factors.
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

    def decide(self, image: Tensor, shallow: Tensor | None) -> Tensor:
        """Bits (K, N): base, image factors and layer factors."""
        image_bits = self.image_bits(gradient_density(image))
        return self.clamp(self.base + image_bits + self.layer_bits().unsqueeze(1))

    def typical_bits(self) -> Tensor:
        """Bits of each layer for an image of factor 0, (K,)."""
        return self.clamp(self.base + self.layer_bits()).detach()

    def losses(self, bits: Tensor, budget: BitBudget) -> dict[str, Tensor]:
        """The bit loss: mean bits above the target (AdaBM, where the losses are Eq. 10-13)."""
        return {'l_bit': budget.excess(bits)} if self.parameter_groups() else {}

    def parameter_groups(self) -> dict[str, ParameterGroup]:
        """Layer factors and complexity thresholds, those that are in use."""
        groups = {}
        if self.layer_to_bit:
            groups['layer'] = ParameterGroup([self.layer_factors], lr=0.01)
        if self.image_to_bit:
            groups['image'] = ParameterGroup([self.thresholds], lr=0.1)
        return groups

    def _by_factor(self) -> list[tuple[float, ...]]:
        """Bits of the layers for each image factor."""
        factors = self.image_factors.tolist() if self.image_to_bit else [0.0]
        layers = self.layer_bits().detach()
        return [tuple(self.clamp(self.base + factor + layers).tolist()) for factor in factors]

    def bit_configs(self) -> dict[str, tuple[float, ...]]:
        """An assignment an image factor; two factors can come to the same bits where these are clamped."""
        factors = self.image_factors.tolist() if self.image_to_bit else [0.0]
        known: dict[tuple[float, ...], str] = {}
        for factor, bits in zip(factors, self._by_factor(), strict=True):
            known.setdefault(bits, f'a{int(self.base + factor)}')
        return {name: bits for bits, name in known.items()}

    def runtime_spec(self) -> dict[str, object]:
        """The thresholds, and the assignment between each two of them."""
        configs = self.bit_configs()
        if len(configs) == 1:
            return {'type': 'fixed', 'code': next(iter(configs))}
        names = {bits: name for name, bits in configs.items()}
        return {
            'type': 'image_complexity',
            'thresholds': self.ordered_thresholds().tolist(),
            'codes': [names[bits] for bits in self._by_factor()],
        }

    @torch.no_grad()
    def settle(self) -> None:
        """Keep the thresholds in order, which a step may have let pass each other."""
        self.thresholds.copy_(self.ordered_thresholds())

    def check_values(self) -> None:
        """Thresholds must ascend, as ``settle`` leaves them."""
        if (self.thresholds.diff() < 0).any():
            raise DynqError('the thresholds of its policy do not ascend')

    def summary(self) -> str:
        """Thresholds and layer bits."""
        thresholds = ', '.join(f'{value:.2f}' for value in self.ordered_thresholds().tolist())
        bits = ' '.join(f'{one:.0f}' for one in self.typical_bits().tolist())
        return f'Complexity thresholds {thresholds}; layer bits {bits}.'

    def measure(self, image: Tensor) -> Tensor:
        """Gradient density, (N,)."""
        return gradient_density(image)

    @torch.no_grad()
    def calibrate(self, statistics: CalibrationStatistics) -> None:
        """Initialise both maps: percentiles of the images' gradient densities and of the layers' deviations."""
        complexities = statistics.measures.double().to(self.thresholds.device)
        sensitivities = statistics.deviations.double().to(self.thresholds.device)
        low = self.image_percentile / 100
        quantiles = torch.linspace(low, 1 - low, len(self.thresholds), dtype=torch.float64, device=complexities.device)
        if len(quantiles) == 1:
            quantiles[:] = 0.5
        self.thresholds.copy_(torch.quantile(complexities, quantiles))
        self.thresholds.copy_(self.ordered_thresholds())
        low = self.layer_percentile / 100
        bounds = torch.quantile(sensitivities, sensitivities.new_tensor([low, 1 - low]))
        self.layer_factors.copy_((sensitivities > bounds[1]).float() - (sensitivities < bounds[0]).float())
