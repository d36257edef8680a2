"""What a policy can choose: every bit assignment as a code, and its own parameters as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.fixed import FixedPolicy
from dynq_basicsr.policies.granularity_entropy import GranularityEntropyPolicy
from dynq_basicsr.policies.image_layer import ImageLayerPolicy


@dataclass(frozen=True)
class Choices:
    """The codes of a network.

    Attributes:
        bits: Code -> bits of each adaptive layer, in module order.
        policy: How the runtime chooses among them; the manifest's ``policy``.
    """

    bits: dict[str, tuple[float, ...]]
    policy: dict[str, object]


def enumerate_codes(net: QuantizedSR) -> Choices:
    """List the bit assignments that the policy of a network can choose.

    Args:
        net: A calibrated network.

    Raises:
        DynqError: If its policy decides otherwise than once an image, among a few assignments.
    """
    policy, layers = net.policy, len(net.plan.adaptive)
    if type(policy) is FixedPolicy:
        bits = {f'a{policy.bits}': (float(policy.bits),) * layers}
        return Choices(bits, {'type': 'fixed', 'code': next(iter(bits))})
    if type(policy) is ImageLayerPolicy:
        return _image_layer(policy)
    if type(policy) is GranularityEntropyPolicy:
        return _granularity_entropy(policy, layers)
    raise DynqError(
        f'network_g.policy: {type(policy).__name__} does not tell which bit assignments it chooses from, so there is '
        'no graph for each; it runs in PyTorch only.'
    )


def _image_layer(policy: ImageLayerPolicy) -> Choices:
    factors = policy.image_factors.tolist() if policy.image_to_bit else [0.0]
    known: dict[tuple[float, ...], str] = {}
    for factor in factors:  # two factors can come to the same bits where these are clamped
        bits = tuple(policy.clamp(policy.base + factor + policy.layer_bits()).tolist())
        known.setdefault(bits, f'a{int(policy.base + factor)}')
    assignments = {code: bits for bits, code in known.items()}
    if len(known) == 1:
        return Choices(assignments, {'type': 'fixed', 'code': next(iter(assignments))})
    codes = [known[tuple(policy.clamp(policy.base + factor + policy.layer_bits()).tolist())] for factor in factors]
    thresholds = policy.ordered_thresholds().tolist()
    return Choices(assignments, {'type': 'image_complexity', 'thresholds': thresholds, 'codes': codes})


def _granularity_entropy(policy: GranularityEntropyPolicy, layers: int) -> Choices:
    if not policy.measured:
        raise DynqError('network_g.policy: the distribution of entropies was never measured; train the network first.')
    codes = {str(bits): f'a{bits}' for bits in policy.candidates}
    return Choices(
        {f'a{bits}': (float(bits),) * layers for bits in policy.candidates},
        {
            'type': 'granularity_entropy',
            'choices': list(policy.granularity_bits),
            'entropy_bits': list(policy.entropy_bits),
            'thresholds': policy.thresholds().tolist() if policy.entropy_bits else [],
            'codes': codes,
        },
    )
