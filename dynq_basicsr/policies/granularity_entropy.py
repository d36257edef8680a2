"""Granular-DQ's policy: a gate on the shallow feature, then the entropy of the patches that it gives the most bits."""

from __future__ import annotations

from math import gcd

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from dynq_basicsr.config.policies import QUANTILE_GAP, GranularDQPolicyOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.base import POLICIES, AdaptiveBody, BitPolicy, CalibrationStatistics, ParameterGroup
from dynq_basicsr.policies.complexity import entropy

# Points at which the distribution of entropies is kept: 0, 0.5, ..., 100 percent, as in the published code.
QUANTILE_POINTS = 201
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
        options: Candidates, quantiles of entropy, and how both are learned.

    Raises:
        DynqError: If it has bits to decide that the body does not allow.
    """

    needs_shallow = True
    options_type = GranularDQPolicyOptions

    def __init__(self, body: AdaptiveBody, options: GranularDQPolicyOptions | None = None) -> None:
        super().__init__(body)
        self.options = options = options or GranularDQPolicyOptions()
        if body.num_layers and (conflict := options.conflict(body.activation)):
            raise DynqError(f'network_g.policy: {conflict}')
        self.granularity_bits, self.entropy_bits = options.granularity_bits, options.entropy_bits
        self.adaptive_thresholds = options.adaptive_thresholds
        self.momentum, self.temperature = options.threshold_momentum, options.temperature
        choices = len(self.granularity_bits)
        self.controller = (
            GranularityBitController(body.shallow_channels, options.granularities, choices) if choices > 1 else None
        )
        self.needs_shallow = self.controller is not None
        self.register_buffer('_own', torch.tensor(self.granularity_bits, dtype=torch.float32), persistent=False)
        self.register_buffer('_by_entropy', torch.tensor(self.entropy_bits, dtype=torch.float32), persistent=False)
        self.register_buffer('quantiles', torch.tensor(options.entropy_quantiles if self.entropy_bits else ()))
        self.register_buffer('entropies', torch.full((QUANTILE_POINTS if self.entropy_bits else 0,), float('nan')))

    @property
    def candidates(self) -> tuple[int, ...]:
        """Those of both parts; the controller's most bits only where entropy hands them out."""
        return self.options.candidates

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
        processes see the smallest and largest entropy of all their batches. Where no layer adapts, nothing moves.

        Args:
            image: The batch, (N, C, H, W).
        """
        if not (self.num_layers and self.adaptive_thresholds and self.entropy_bits):
            return
        values = entropy(image)
        extremes = torch.stack([-values.min(), values.max()])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(extremes, dist.ReduceOp.MAX)
        lowest, highest = -extremes[0], extremes[1]
        place = ((self.thresholds() - lowest) / (highest - lowest)).clamp(0, 1)
        moved = torch.lerp(place, self.quantiles, self.momentum)
        gaps = QUANTILE_GAP * torch.arange(len(moved), device=moved.device, dtype=moved.dtype)
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

    def check_values(self) -> None:
        """Quantiles and the distribution of entropies must ascend."""
        quantiles = F.pad(F.pad(self.quantiles, (1, 0), value=0.0), (0, 1), value=1.0)  # all within [0, 1]
        if any((values.diff() < 0).any() for values in (quantiles, self.entropies)):
            raise DynqError('the entropies or quantiles of its policy do not ascend')

    def summary(self) -> str:
        """The entropy thresholds and what they are quantiles of."""
        if not self.entropy_bits:
            return ''
        pairs = zip(self.quantiles.tolist(), self.thresholds().tolist(), strict=True)
        text = ', '.join(f'{value:.3f} nats (quantile {quantile:.3f})' for quantile, value in pairs)
        return f'Entropy thresholds: {text}.'
