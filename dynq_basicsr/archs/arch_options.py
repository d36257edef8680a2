"""Options of an architecture, checked against its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from basicsr.archs import build_network
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from dynq_basicsr.archs.padding import SizeRequirement
from dynq_basicsr.backbones.profiles import PROFILES
from dynq_basicsr.errors import DynqError, check_keys, nearest


def check_network(section: str, options: Mapping) -> None:
    """Check that an architecture exists and takes the given options.

    Args:
        section: Where they stand, for the error.
        options: ``{type: ..., further options}``.

    Raises:
        DynqError: Names the type or key and its nearest match.
    """
    names = {name.removesuffix('_basicsr') for name, _ in ARCH_REGISTRY}
    kind = options.get('type') if isinstance(options, Mapping) else None
    if not isinstance(kind, str):
        raise DynqError(f'{section}.type: missing; name a registered architecture, as EDSR.')
    if kind.removesuffix('_basicsr') not in names:
        raise DynqError(f'{section}.type: no registered architecture {kind!r}.{nearest(kind, names)}')
    parameters = _parameters(kind).values()
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        check_keys(section, options, ['type', *(parameter.name for parameter in parameters)])
    missing = [one.name for one in parameters if one.default is one.empty and one.name not in options]
    missing = [name for name in missing if name not in ('args', 'kwargs')]
    if missing:
        raise DynqError(f'{section}: {kind} needs {", ".join(missing)}.')


def with_defaults(parameters: Mapping[str, inspect.Parameter], options: Mapping) -> dict[str, object]:
    """Options as they take effect: what is given, and the constructor's defaults as far as they are plain values."""
    plain = (bool, int, float, str, list, tuple, type(None))
    defaults = {one.name: one.default for one in parameters.values() if isinstance(one.default, plain)}
    return {**defaults, **options}


def network_options(options: Mapping) -> dict[str, object]:
    """Options of an architecture as they take effect, ``type`` included."""
    return with_defaults(_parameters(options['type']), options)


def size_requirement(net: nn.Module, options: Mapping) -> SizeRequirement:
    """What sides of images a bare network takes: its own word (``net.sizes``), its profile's, or any.

    Args:
        net: The network.
        options: Those that it was built from, ``type`` included.
    """
    own = getattr(net, 'sizes', None)
    if isinstance(own, SizeRequirement):
        return own
    profile = PROFILES.get(options['type'].removesuffix('_basicsr'))
    return SizeRequirement(profile.multiple(network_options(options).__getitem__)) if profile else SizeRequirement()


def input_channels(net: nn.Module, options: Mapping) -> int:
    """Channels of the image that a bare network takes: its own word (``net.input_channels``), its options', or 3.

    Args:
        net: The network.
        options: Those that it was built from.
    """
    return getattr(net, 'input_channels', options.get('num_in_ch', options.get('in_chans', 3)))


def build_backbone(options: Mapping) -> nn.Module:
    """Build a registered architecture.

    Raises:
        DynqError: If its constructor refuses the options.
    """
    check_network('network_g.backbone', options)
    try:
        return build_network(dict(options))
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError, NotImplementedError) as error:
        raise DynqError(f'network_g.backbone: {options["type"]} refuses its options ({error}).') from error


def _parameters(kind: str) -> Mapping[str, inspect.Parameter]:
    arch = ARCH_REGISTRY.get(kind if kind in ARCH_REGISTRY else f'{kind.removesuffix("_basicsr")}_basicsr')
    return inspect.signature(arch).parameters
