"""Layers by name: patterns from an option file or a profile, and the blocks that layers stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from torch import nn

from dynq_basicsr.errors import DynqError, nearest
from dynq_basicsr.quantization.layers import QUANTIZED_CLASSES

# Side of the square that is sent through a network to look at it, in pixels: a multiple of every usual window size.
PROBE_SIZE = 64


def select_layers(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Resolve patterns to the names of convolutions and linear layers, in module order.

    A pattern is the exact name of a module, the class name of modules, or ``re:`` and a regular expression for whole
    names. A module that is no layer itself stands for every layer inside it.

    Args:
        model: The network.
        patterns: The patterns; each must match something.

    Raises:
        DynqError: If a pattern matches nothing; names near module and class names.
    """
    modules = dict(model.named_modules())
    chosen = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise DynqError(f'quantization: a pattern must be text, not {pattern!r}.')
        matched = [name for name, module in modules.items() if _matches(pattern, name, module)]
        layers = {inner for name in matched for inner in _layers_under(modules, name)}
        if not layers:
            candidates = [name for name in modules if name] + sorted({type(m).__name__ for m in modules.values()})
            raise DynqError(
                f'quantization: the pattern {pattern!r} matches no convolution or linear layer of '
                f'{type(model).__name__}.{nearest(pattern.removeprefix("re:"), candidates)}'
            )
        chosen |= layers
    return [name for name in modules if name in chosen]


def select_modules(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Names of the modules that the patterns of ``select_layers`` match, whatever their kind, in module order."""
    return [name for name, m in model.named_modules() if any(_matches(pattern, name, m) for pattern in patterns)]


def _matches(pattern: str, name: str, module: nn.Module) -> bool:
    if pattern.startswith('re:'):
        try:
            return re.fullmatch(pattern[3:], name) is not None
        except re.error as error:
            raise DynqError(f'quantization: {pattern!r} is not a regular expression: {error}.') from error
    return pattern in (name, type(module).__name__) and name != ''


def _layers_under(modules: dict[str, nn.Module], name: str) -> list[str]:
    return [
        inner
        for inner, module in modules.items()
        if (inner == name or inner.startswith(f'{name}.')) and type(module) in QUANTIZED_CLASSES
    ]


def feature_taps(names: Sequence[str]) -> list[str]:
    """Name the modules whose outputs stand for the network's features: one tap a block.

    They are the children of the innermost module that holds all given layers, those that hold at least one: the
    residual blocks of EDSR, the residual groups of RCAN, the RSTBs of SwinIR. Layers of a network without modules for
    its blocks stand for themselves.

    Args:
        names: Names of the layers in question; none gives no tap.
    """
    if not names:
        return []
    paths = [name.split('.') for name in names]
    depth = 0
    while all(len(path) > depth + 1 and path[depth] == paths[0][depth] for path in paths):
        depth += 1
    return list(dict.fromkeys('.'.join(path[: depth + 1]) for path in paths))
