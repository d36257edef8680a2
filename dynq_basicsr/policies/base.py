"""The protocol of bit policies: one question, the bits of these layers for these samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.config.section import Section
from dynq_basicsr.errors import DynqError
from dynq_basicsr.registry import Registry


@dataclass(frozen=True)
class AdaptiveBody:
    """What a policy is told of the network whose bits it decides.

    Attributes:
        num_layers: Number of adaptive layers, K.
        activation: Base bits and the range that adaptive bits are clamped to.
        shallow_channels: Channels of the shallow feature, the output of the first convolution; 0 where the policy's
            class does not look at it.
    """

    num_layers: int
    activation: ActivationOptions
    shallow_channels: int = 0


@dataclass(frozen=True)
class CalibrationStatistics:
    """What calibration tells a policy.

    Attributes:
        measures: ``BitPolicy.measure`` of each calibration patch, (n,); empty where the policy measures nothing.
        deviations: Standard deviation of each adaptive layer's input, the mean over patches, (K,).
    """

    measures: Tensor
    deviations: Tensor


@dataclass(frozen=True)
class BitBudget:
    """What training wants of the bits.

    Attributes:
        target: Mean bits above which they cost something.
        momentum: Of the running mean of bits over batches that the target applies to; 0: each batch by itself.
        mean: That mean so far, a scalar, updated in place; NaN before the first batch.
    """

    target: float
    momentum: float
    mean: Tensor

    def excess(self, bits: Tensor) -> Tensor:
        """Bits above the target, >= 0, with the gradient to this batch's bits (K, N)."""
        now = bits.mean()
        with torch.no_grad():
            before = torch.where(self.mean.isnan(), now, self.mean)
            self.mean.copy_(torch.lerp(now, before, self.momentum))
        return (self.mean + (now - now.detach()) - self.target).clamp(min=0)


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that fine-tuning learns at one rate.

    Attributes:
        parameters: The parameters.
        lr: Learning rate where ``train.lr`` of ``AdaBMModel`` knows no such kind. Quantization-aware training has one
            rate for the whole policy, ``train.lr_gate``.
    """

    parameters: list[nn.Parameter]
    lr: float


class BitPolicy(nn.Module):
    """Decides the activation bit-widths of adaptive layers.

    A policy is part of the network: its parameters are learned, saved and counted with it. A subclass registers itself
    (``POLICIES.register``), takes an ``AdaptiveBody`` and its own options, and overrides what it needs: ``decide``
    where it looks at the image or at the shallow feature, ``decide_layer`` where it looks at each layer's input.

    Args:
        body: The network.

    Attributes:
        options_type: The class of its options, of which its constructor takes one behind the body; None: its
            constructor has a parameter for each option.
        needs_shallow: Whether ``decide`` wants the shallow feature. An instance may want less than its class.
        by_layer: Whether ``decide_layer`` answers instead of ``decide``. Its bits are then known too late for a graph
            of its own for each, so such a network runs in PyTorch only.
        runtime_module: What the runtime must compute of the shallow feature (N, C, H, W) to decide: logits
            (N, choices); None: nothing.
    """

    options_type: ClassVar[type[Section] | None] = None
    needs_shallow: bool = False
    by_layer: ClassVar[bool] = False
    runtime_module: nn.Module | None = None

    def __init__(self, body: AdaptiveBody) -> None:
        super().__init__()
        self.base, self.num_layers = float(body.activation.bits), body.num_layers

    @property
    def candidates(self) -> tuple[int, ...]:
        """Every bit-width that it can choose, ascending."""
        raise NotImplementedError

    def decide(self, image: Tensor, shallow: Tensor | None) -> Tensor:
        """Bits of all adaptive layers.

        Args:
            image: (N, C, H, W) in [0, 1].
            shallow: Output of the first convolution, (N, C', H, W), where the policy ``needs_shallow``.

        Returns:
            (K, N), or (K, 1) where they hold for all samples; each a candidate, with a gradient to what is learned.
        """
        raise NotImplementedError

    def decide_layer(self, index: int, x: Tensor) -> Tensor:
        """Bits of one adaptive layer, (N,), for its input (N, ...)."""
        raise NotImplementedError

    def measure(self, image: Tensor) -> Tensor | None:
        """What it wants to know of each calibration image (N, C, H, W), as numbers (N,); None: nothing."""
        return None

    def calibrate(self, statistics: CalibrationStatistics) -> None:
        """Take first values from what calibration found."""

    def typical_bits(self) -> Tensor:
        """Bits of each adaptive layer for a usual image, (K,), which first ranges are searched for."""
        return torch.full((self.num_layers,), self.base)

    def adapt(self, image: Tensor) -> None:
        """Told of each training batch (N, C, H, W) of the first epoch, before it runs."""

    def losses(self, bits: Tensor, budget: BitBudget) -> dict[str, Tensor]:
        """Terms that ``AdaBMModel`` adds to its loss, by name, unweighted; ``bits`` as from ``decide``.

        ``GranularDQModel`` trains with the losses of its option file alone, as its paper does.
        """
        return {}

    def parameter_groups(self) -> dict[str, ParameterGroup]:
        """What ``AdaBMModel`` learns of it, by kind; its ``train.lr`` has a rate for ``layer`` and ``image``."""
        return {}

    def bit_configs(self) -> dict[str, tuple[float, ...]]:
        """What it can choose: name -> bits of each adaptive layer; an exported network holds the grids of each.

        Raises:
            DynqError: If bits are decided while the layers run, or not from a few assignments.
        """
        raise DynqError(
            f'network_g.policy: {type(self).__name__} does not tell which bit assignments it chooses from, so there is '
            'no graph for each; it runs in PyTorch only.'
        )

    def runtime_spec(self) -> dict[str, object]:
        """How a runtime without PyTorch chooses among ``bit_configs``: plain values, for the manifest.

        Raises:
            DynqError: As ``bit_configs``.
        """
        raise DynqError(f'network_g.policy: {type(self).__name__} tells no runtime how it chooses; it runs in PyTorch.')

    def settle(self) -> None:
        """Told that an optimizer has stepped; brings parameters back to where they may be."""

    def check_values(self) -> None:
        """Told that a checkpoint was loaded, all of whose values are finite.

        Raises:
            DynqError: If they contradict each other; what about them, without a name and a full stop.
        """

    def summary(self) -> str:
        """A sentence about what calibration or training made of it, for the log; empty: nothing to say."""
        return ''


POLICIES: Registry[type[BitPolicy]] = Registry('policy', 'network_g.policy.type')
