"""Architectures by name: their options, checked against the constructor, and what images they take and give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from dynq_basicsr.archs.probe import Probed, probe
from dynq_basicsr.backbones.profiles import PROFILES
from dynq_basicsr.compat.registries import find, names
from dynq_basicsr.errors import DynqError, check_keys, nearest, shown

# Whose classes are those that the profiles describe; others may have the name of one of them.
_DESCRIBED = ('basicsr', 'dynq_basicsr', 'spandrel')
# Names of one option in the constructors of various authors.
_IN_CHANNELS = ('num_in_ch', 'in_chans', 'in_channels', 'in_nc')
_OUT_CHANNELS = ('num_out_ch', 'out_chans', 'out_channels', 'out_nc')
_SCALES = ('upscale', 'scale')


def check_network(section: str, options: Mapping) -> None:
    """Check that an architecture exists and takes the given options.

    Args:
        section: Where they stand, for the error.
        options: ``{type: ..., further options}``.

    Raises:
        DynqError: Names the type or key and its nearest match.
    """
    kind = options.get('type') if isinstance(options, Mapping) else None
    if not isinstance(kind, str):
        raise DynqError(f'{section}.type: missing; name a registered architecture, as EDSR.')
    if find(ARCH_REGISTRY, kind) is None:
        raise DynqError(
            f'{section}.type: no registered architecture {shown(kind)}.{nearest(kind, names(ARCH_REGISTRY))} Correct '
            'the name, or bring your own architecture with `plugins: [my_archs.py]` or --plugin my_archs.py.'
        )
    parameters = _parameters(kind).values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        check_keys(section, options, ['type', *(parameter.name for parameter in parameters)])
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in parameters if one.default is one.empty and one.kind not in collecting]
    missing = [name for name in needed if name not in options]
    if missing:
        raise DynqError(f'{section}: {kind} needs {", ".join(missing)}.')
    for one in parameters:
        if isinstance(one.default, int | float) and isinstance(options.get(one.name), str):
            what = 'true or false' if isinstance(one.default, bool) else f'a number, as {one.default}'
            raise DynqError(f'{section}.{one.name}: must be {what}, not {shown(options[one.name])}.')


def with_defaults(parameters: Mapping[str, inspect.Parameter], options: Mapping) -> dict[str, object]:
    """Options as they take effect: what is given, and the constructor's defaults as far as they are plain values."""
    plain = (bool, int, float, str, list, tuple, type(None))
    defaults = {one.name: one.default for one in parameters.values() if isinstance(one.default, plain)}
    return {**defaults, **options}


def network_options(options: Mapping) -> dict[str, object]:
    """Options of an architecture as they take effect, ``type`` included."""
    return with_defaults(_parameters(options['type']), options)


def describe_module(net: nn.Module) -> dict[str, object]:
    """What stands for the options of a network that was built by somebody else: its class."""
    return {'type': 'Module', 'class': f'{type(net).__module__}.{type(net).__qualname__}'}


def image_format(
    net: nn.Module,
    options: Mapping | None = None,
    value_range: float | None = None,
    output: int | str | None = None,
) -> Probed:
    """What a bare network takes and gives: its own word (``net.image_format``), its profile's, or what a run shows.

    Args:
        net: The network.
        options: Those that it was built from, ``type`` included; None: it was built by somebody else.
        value_range: What is known of the range of its values; None: nothing.
        output: What is known of the place of the image in its result; None: nothing.

    Raises:
        DynqError: If it is none that maps images to images.
    """
    known = getattr(net, 'image_format', None)
    known = known if isinstance(known, Probed) else _as_described(net, options or {})
    if known is None:
        channels = _option(network_options(options), _IN_CHANNELS) if options else None
        return probe(net, channels if isinstance(channels, int) else None, value_range, output)
    if value_range is not None:
        known = replace(known, value_range=value_range)
    if output not in (None, known.output):  # what was said may be wrong
        found = probe(net, known.in_channels, known.value_range, output)
        known = replace(known, output=output, scale=found.scale, out_channels=found.out_channels)
    return known


def _as_described(net: nn.Module, options: Mapping) -> Probed | None:
    """What its profile says of a network; None: nothing."""
    profile = PROFILES.get(type(net).__name__)
    if not options or profile is None or type(net).__module__.partition('.')[0] not in _DESCRIBED:
        return None
    options = network_options(options)
    channels, scale = _option(options, _IN_CHANNELS, 3), _option(options, _SCALES)
    if scale is None:
        return None
    return Probed(channels, _option(options, _OUT_CHANNELS, channels), scale, multiple=profile.multiple(options.get))


def _option(options: Mapping, spellings: tuple[str, ...], default: int | None = None) -> int | None:
    return next((options[name] for name in spellings if name in options), default)


def build_backbone(options: Mapping, section: str = 'network_g.backbone') -> nn.Module:
    """Build a registered architecture.

    Args:
        options: ``{type: ..., further options}``.
        section: Where they stand, for the error.

    Raises:
        DynqError: If its constructor refuses the options.
    """
    if isinstance(options, Mapping) and options.get('type') == 'Module':
        raise DynqError(
            f'{section}: the network is a module of the class {shown(options.get("class"))}, which no option '
            'file builds; pass such a module (dynq_basicsr.load(path, model=...)), or register its class in a file of '
            '`plugins`.'
        )
    check_network(section, options)
    try:
        given = {key: deepcopy(value) for key, value in options.items() if key != 'type'}
        return find(ARCH_REGISTRY, options['type'])(**given)  # BasicSR's build_network prints how it found the name
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError, NotImplementedError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise DynqError(f'{section}: {options["type"]} refuses its options ({reason}).') from error


def _parameters(kind: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(find(ARCH_REGISTRY, kind)).parameters
