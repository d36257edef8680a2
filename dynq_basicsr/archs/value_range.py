"""On which range of values a float network works, as what it makes of a smooth image shows."""

from __future__ import annotations

from torch import nn

from dynq_basicsr.archs.probe import Probed, probe


def shown_value_range(network: nn.Module, assumed: Probed) -> float | None:
    """The range of values that a float network shows, once its weights are loaded.

    Args:
        network: The float network.
        assumed: What is taken for what it takes and gives.

    Returns:
        1 or 255: images are 0 .. this; None: it shows none of these, as an untrained network.
    """
    found = probe(network, assumed.in_channels, output=assumed.output)
    return found.value_range if found.certain else None


def value_range_hint(network: nn.Module, assumed: Probed, option: str = 'network_g.value_range') -> str:
    """A sentence where a float network seems to work on another range than was assumed; empty: nothing to say.

    Args:
        network: See ``shown_value_range``.
        assumed: See ``shown_value_range``.
        option: What sets the range.
    """
    shown = None if assumed.certain else shown_value_range(network, assumed)
    if shown in (None, assumed.value_range):
        return ''
    return (
        f'{type(network).__name__} works on values from 0 to {shown:g}, as what it makes of a smooth image shows, but '
        f'0 to {assumed.value_range:g} was assumed; set {option}: {shown:g}.'
    )
