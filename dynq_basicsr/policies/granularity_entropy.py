"""Granular-DQ's policy: a gate on the shallow feature, then the entropy of the patches that it gives the most bits."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dynq_basicsr.errors import DynqError, check_number, check_switch
from dynq_basicsr.policies.base import POLICIES, AdaptiveBody, BitPolicy, CalibrationStatistics, ParameterGroup
from dynq_basicsr.policies.complexity import entropy
from dynq_basicsr.quantization.options import FLOAT_BITS

# Points at which the distribution of entropies is kept: 0, 0.5, ..., 100 percent, as in the published code.
QUANTILE_POINTS = 201
# Smallest distance between neighbouring thresholds, as fractions of the distribution.
MIN_GAP = 0.01
NORM_GROUPS = 8
# Of the most bits at the beginning, in logits: a network that was trained in float first learns to do with 8 bits,
# while one patch in five tries fewer.
HEAD_START = 2.0


class GranularityBitController(nn.Module):
    """GBC: looks at the shallow feature in several granularities and weighs the candidates (Granular-DQ, section 3.2).

    Each granularity is the one before, pooled by 2, and is group-normalised by itself. Pooling and the mean over pixels
    are both linear, so without the normalisation all granularities would say the same (the published code has it
    commented out).

    Args:
        channels: Of the shallow feature.
        granularities: How many.
        choices: Number of candidates, the last one that with the most bits.
    """

    def __init__(self, channels: int, granularities: int, choices: int) -> None:
        super().__init__()
        groups = gcd(NORM_GROUPS, max(channels // 2, 1))  # of a group of one channel, the mean is always zero
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels, eps=1e-6) for _ in range(granularities))
        self.gate = nn.Linear(granularities * channels, choices)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        with torch.no_grad():
            self.gate.bias[-1] = HEAD_START

    def forward(self, feature: Tensor) -> Tensor:
        """Logits (N, choices) of a shallow feature (N, C, H, W)."""
        means = []
        for norm in self.norms:
            if means:
                feature = F.avg_pool2d(feature, 2, ceil_mode=True, count_include_pad=False)
            means.append(norm(feature).mean(dim=(2, 3)))
        return self.gate(torch.cat(means, dim=1))


@POLICIES.register('GranularDQ')
class GranularityEntropyPolicy(BitPolicy):
    """One bit-width a patch, for all layers (Granular-DQ, Wang et al., AAAI 2025).

    The controller (GBC) chooses among ``granularity_bits``: a straight-through Gumbel-softmax in training, the largest
    logit in evaluation. A patch that gets the most of these bits is then given ``entropy_bits`` by its entropy (E2B):
    the first up to the first of ``entropy_quantiles`` of the training set's entropies, and so on. In the first epoch,
    the thresholds follow the batches (ATC).

    Args:
        body: Channels of the shallow feature.
        granularity_bits: Ascending candidates of the controller; a single one switches it off.
        entropy_bits: Ascending candidates for the patches with the most bits; none switches E2B off.
        entropy_quantiles: Ascending, in (0, 1), one fewer than ``entropy_bits``.
        granularities: How many the controller looks at.
        adaptive_thresholds: Whether thresholds follow the batches of the first epoch (ATC).
        threshold_momentum: What a threshold keeps of itself in an iteration.
        temperature: Of the Gumbel-softmax.
    """

    needs_shallow = True

    def __init__(
        self,
        body: AdaptiveBody,
        granularity_bits: Sequence[int] = (4, 6, 8),
        entropy_bits: Sequence[int] | None = (4, 5, 8),
        entropy_quantiles: Sequence[float] = (0.5, 0.9),
        granularities: int = 3,
        adaptive_thresholds: bool = True,
        threshold_momentum: float = 0.9997,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(body)
        self.granularity_bits = _ascending_bits('granularity_bits', granularity_bits)
        self.entropy_bits = _ascending_bits('entropy_bits', entropy_bits) if entropy_bits else ()
        if self.entropy_bits:
            _check_quantiles(entropy_quantiles, len(self.entropy_bits) - 1)
        check_number('network_g.policy.granularities', granularities, 1, 8, whole=True)
        check_number('network_g.policy.threshold_momentum', threshold_momentum, 0, 1)
        check_number('network_g.policy.temperature', temperature, 1e-3)
        check_switch('network_g.policy.adaptive_thresholds', adaptive_thresholds)
        self.adaptive_thresholds, self.momentum, self.temperature = adaptive_thresholds, threshold_momentum, temperature
        choices = len(self.granularity_bits)
        self.controller = (
            GranularityBitController(body.shallow_channels, granularities, choices) if choices > 1 else None
        )
        self.needs_shallow = self.controller is not None
        _check_body(body, self.candidates)
        self.register_buffer('_own', torch.tensor(self.granularity_bits, dtype=torch.float32), persistent=False)
        self.register_buffer('_by_entropy', torch.tensor(self.entropy_bits, dtype=torch.float32), persistent=False)
        self.register_buffer('quantiles', torch.tensor(entropy_quantiles if self.entropy_bits else ()))
        self.register_buffer('entropies', torch.full((QUANTILE_POINTS if self.entropy_bits else 0,), float('nan')))

    @property
    def candidates(self) -> tuple[int, ...]:
        """Those of both parts; the controller's most bits only where entropy hands them out."""
        lower = self.granularity_bits[:-1] if self.entropy_bits else self.granularity_bits
        return tuple(sorted({*lower, *self.entropy_bits}))

    @property
    def measured(self) -> bool:
        """Whether the distribution of entropies is known, where it is needed."""
        return not torch.isnan(self.entropies).any()

    def measure(self, image: Tensor) -> Tensor | None:
        """Entropy, (N,), where it hands out bits."""
        return entropy(image) if self.entropy_bits else None

    @torch.no_grad()
    def calibrate(self, statistics: CalibrationStatistics) -> None:
        """Take the distribution of entropies from those of training patches."""
        if self.entropy_bits and len(statistics.measures):
            self.set_distribution(statistics.measures)

    @torch.no_grad()
    def set_distribution(self, entropies: Tensor) -> None:
        """Take the distribution of entropies from those of training patches, (n,)."""
        points = torch.linspace(0, 1, QUANTILE_POINTS, dtype=torch.float64)
        self.entropies.copy_(torch.quantile(entropies.double().cpu(), points))

    def thresholds(self) -> Tensor:
        """Entropies at the quantiles, interpolated between the points of the distribution, ascending."""
        place = self.quantiles.clamp(0, 1) * (QUANTILE_POINTS - 1)
        below = place.floor().clamp(max=QUANTILE_POINTS - 2).long()
        return torch.lerp(self.entropies[below], self.entropies[below + 1], place - below)

    def entropy_to_bit(self, values: Tensor) -> Tensor:
        """Bits of patches of these entropies, (N,) -> (N,)."""
        return self._by_entropy[(values.unsqueeze(1) > self.thresholds()).sum(dim=1)]

    @torch.no_grad()
    def adapt(self, image: Tensor) -> None:
        """ATC: move each quantile towards the place of its threshold among the entropies of a batch (Eq. 10).

        t becomes gamma t + (1 - gamma) (H_t - min) / (max - min), within [0, 1], and quantiles stay apart. All
        processes see the smallest and largest entropy of all their batches.

        Args:
            image: The batch, (N, C, H, W).
        """
        if not (self.adaptive_thresholds and self.entropy_bits):
            return
        values = entropy(image)
        extremes = torch.stack([-values.min(), values.max()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(extremes, dist.ReduceOp.MAX)
        lowest, highest = -extremes[0], extremes[1]
        place = ((self.thresholds() - lowest) / (highest - lowest)).clamp(0, 1)
        moved = torch.lerp(place, self.quantiles, self.momentum)
        gaps = MIN_GAP * torch.arange(len(moved), device=moved.device, dtype=moved.dtype)
        moved = (moved - gaps).cummax(dim=0).values + gaps
        self.quantiles.copy_(torch.where(highest > lowest, moved, self.quantiles))

    def choose(self, image: Tensor, shallow: Tensor | None) -> Tensor:
        """Bits of each image, (N,), with a gradient to the controller in training.

        The gradient takes every choice at its own candidate, the last one before entropy lowers it. Were it taken at
        what entropy makes of it, the L1 loss alone would teach the controller to prefer the candidate below, which is
        more bits for most patches.
        """
        own = self._own.to(image.dtype)
        most = own[-1].expand(len(image))
        if self.entropy_bits:
            most = self.entropy_to_bit(entropy(image))
        if self.controller is None:
            return most
        logits = self.controller(shallow)
        if self.training:
            chosen = F.gumbel_softmax(logits, tau=self.temperature, hard=True)
        else:
            # not one_hot, which reads from the device to check what it is given
            chosen = torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
        given = torch.cat([own[:-1].expand(len(image), -1), most.unsqueeze(1)], dim=1)
        index = chosen.detach().argmax(dim=1, keepdim=True)
        bits = (chosen * own).sum(dim=1)
        return bits + (given.gather(1, index).squeeze(1) - bits).detach()

    def decide(self, image: Tensor, shallow: Tensor | None) -> Tensor:
        """The same bits for all layers, (K, N)."""
        return self.choose(image, shallow).expand(self.num_layers, -1)

    @property
    def runtime_module(self) -> nn.Module | None:
        """The controller."""
        return self.controller

    def parameter_groups(self) -> dict[str, ParameterGroup]:
        """The controller's parameters."""
        return {'gate': ParameterGroup(list(self.controller.parameters()), lr=1e-4)} if self.controller else {}

    def bit_configs(self) -> dict[str, tuple[float, ...]]:
        """An assignment a candidate."""
        if not self.measured:
            raise DynqError(
                'network_g.policy: the distribution of entropies was never measured; train the network first.'
            )
        return {f'a{bits}': (float(bits),) * self.num_layers for bits in self.candidates}

    def runtime_spec(self) -> dict[str, object]:
        """Choices of the controller, and thresholds of entropies."""
        return {
            'type': 'granularity_entropy',
            'choices': list(self.granularity_bits),
            'entropy_bits': list(self.entropy_bits),
            'thresholds': self.thresholds().tolist() if self.entropy_bits else [],
            'codes': {str(bits): f'a{bits}' for bits in self.candidates},
        }

    def summary(self) -> str:
        """The entropy thresholds and what they are quantiles of."""
        if not self.entropy_bits:
            return ''
        pairs = zip(self.quantiles.tolist(), self.thresholds().tolist(), strict=True)
        text = ', '.join(f'{value:.3f} nats (quantile {quantile:.3f})' for quantile, value in pairs)
        return f'Entropy thresholds: {text}.'


def _ascending_bits(key: str, bits: object) -> tuple[int, ...]:
    given = list(bits) if isinstance(bits, list | tuple) else []
    for one in given:
        check_number(f'network_g.policy.{key}', one, 2, 8, whole=True)
    if not given or given != sorted(set(given)):
        raise DynqError(f'network_g.policy.{key}: give ascending bits from 2 to 8, not {bits!r}.')
    return tuple(given)


def _check_body(body: AdaptiveBody, candidates: Sequence[int]) -> None:
    activation = body.activation
    lowest, highest = activation.bits_range
    if candidates[0] < lowest or candidates[-1] > highest:
        raise DynqError(
            f'network_g.policy: bits {list(candidates)} are not all within network_g.quantization.activation.'
            f'bits_range, {list(activation.bits_range)}; change either.'
        )
    if body.num_layers and activation.bits == FLOAT_BITS:
        raise DynqError(
            'network_g.quantization.activation.bits: activations are float (32), so GranularDQ has no bits to decide; '
            'give 8.'
        )


def _check_quantiles(quantiles: object, count: int) -> None:
    key = 'network_g.policy.entropy_quantiles'
    given = list(quantiles) if isinstance(quantiles, list | tuple) else []
    for one in given:
        check_number(key, one, 0, 1)
    apart = all(upper - lower >= MIN_GAP for lower, upper in zip(given, given[1:], strict=False))
    if len(given) != count or not apart:
        raise DynqError(
            f'{key}: give {count}, one fewer than entropy_bits, ascending and at least {MIN_GAP} apart, '
            f'not {quantiles!r}.'
        )
