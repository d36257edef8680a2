"""What the layers of a quantized network find in a run: their weights, and grids of the bits that somebody decides."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from torch import Tensor

from dynq_basicsr.config.quantization import FLOAT_BITS, QuantizationOptions
from dynq_basicsr.policies.base import BitPolicy
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.quantization.run import Mode, Run
from dynq_basicsr.quantization.weights import quantize_weights


def set_up(
    run: Run,
    x: Tensor,
    layers: Sequence[QuantLayer],
    policy: BitPolicy,
    options: QuantizationOptions,
    bits: Tensor | None,
) -> None:
    """Lay down in a run what its layers use, as far as it is known before they run.

    Args:
        run: The run, of any mode but ``float``.
        x: (N, C, H, W) in [0, 1].
        layers: All quantized layers of the network.
        policy: Decides the bits of the adaptive ones.
        options: Of the network.
        bits: Of the adaptive layers, (K,) or (K, N), instead of the policy's.
    """
    _set_weights(run, layers, options)
    active = [one for one in layers if one.options.activation.bits != FLOAT_BITS]
    _set_static_grids(run, [one for one in active if one.index is None], x)
    adaptive = [one for one in active if one.index is not None]

    def use(decided: Tensor) -> None:
        run.bits.update(enumerate(decided.unbind()))
        _set_grids(run, adaptive, decided)

    if bits is not None:
        use((bits.unsqueeze(1) if bits.dim() == 1 else bits).to(x))
    elif options.activation.bits == FLOAT_BITS:
        count = sum(one.index is not None for one in layers)
        run.bits.update(enumerate(x.new_full((count, 1), float(FLOAT_BITS)).unbind()))
    elif policy.by_layer:
        run.decide = policy.decide_layer
    elif policy.needs_shallow:
        run.on_shallow = lambda shallow: use(policy.decide(x, shallow))
    else:
        use(policy.decide(x, None))


def _set_weights(run: Run, layers: Iterable[QuantLayer], options: QuantizationOptions) -> None:
    simulated = [one for one in layers if run.mode is Mode.TRAINING or not one.integer]
    ranges = [one.weight_range for one in simulated]
    weights = quantize_weights([one.weight for one in simulated], ranges, options.rounding_gradient, run.matmul_dtype)
    for layer, weight in zip(simulated, weights, strict=True):
        run.weights[layer.position] = weight


def _set_static_grids(run: Run, layers: Iterable[QuantLayer], x: Tensor) -> None:
    """Grids of layers whose bits no policy decides."""
    groups: dict[int, list[QuantLayer]] = defaultdict(list)
    for layer in layers:
        groups[layer.options.activation.bits].append(layer)
    for bits, members in groups.items():
        _set_grids(run, members, x.new_full((len(members), 1), float(bits)))


def _set_grids(run: Run, layers: Sequence[QuantLayer], bits: Tensor) -> None:
    """Grids of layers at bits (K, 1) or (K, N)."""
    if not layers:
        return
    quantizers = [one.activation_range for one in layers]
    table = type(quantizers[0]).grid_table(quantizers, bits)
    for layer, grid in zip(layers, table.unbind(), strict=True):
        run.grids[layer.position] = grid
