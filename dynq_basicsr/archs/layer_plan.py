"""Which layers of a backbone are quantized, and how: its profile, or what stands in for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import nn

from dynq_basicsr.archs.arch_options import input_channels, size_requirement
from dynq_basicsr.backbones.profiles import PROFILES, BackboneProfile
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.options import QuantizationOptions
from dynq_basicsr.quantization.selection import (
    batch_norms_behind,
    end_layers,
    first_convolution,
    generic_layers,
    select_layers,
    select_modules,
)


@dataclass(frozen=True)
class LayerPlan:
    """Names of layers by what becomes of them, in module order; all others stay float.

    Attributes:
        rule: Where the plan comes from, for the log.
        head: The convolution that runs first, whose output is the shallow feature; empty if nobody looks at it.
        adaptive: The policy decides their activation bits.
        static: Layers of the body at the base bits.
        ends: Head, upsampler and tail at ``QuantizationOptions.ends``; scope ``full`` only.
        features: Layers whose blocks the feature loss compares, the same in both scopes.
        precise: Float modules ahead of quantized layers that compute in float64 while sums are to be exact.
        norms: Quantized layer -> the batch normalization behind it that it folds.
    """

    rule: str
    head: str
    adaptive: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    precise: tuple[str, ...] = ()
    norms: Mapping[str, str] = field(default_factory=dict)

    @property
    def quantized(self) -> tuple[str, ...]:
        """All quantized layers."""
        return (*self.adaptive, *self.static, *self.ends)


def plan_layers(
    net: nn.Module, backbone: Mapping, options: QuantizationOptions, needs_head: bool = False
) -> LayerPlan:
    """Choose layers by the patterns of the option file, else the profile, else a generic rule; then leave out.

    Without a profile, scope ``full`` takes every other convolution at the input's resolution or above as an end.

    Args:
        net: The float network.
        backbone: Its options, ``type`` included.
        options: The ``quantization`` section.
        needs_head: Whether somebody looks at the shallow feature; a network without a profile runs once to find it.

    Raises:
        DynqError: If a pattern matches nothing, or no rule fits.
    """
    profile = _find_profile(net, foreign=backbone['type'] == 'Spandrel')
    in_channels = input_channels(net, backbone)
    multiple = size_requirement(net, backbone).multiple
    head = ''
    if needs_head:
        head = _first_registered(net) if profile else first_convolution(net, in_channels, multiple)
    if not options.enabled:
        return LayerPlan('quantization is off', head)
    full = options.scope == 'full'
    if profile and not options.layers:
        layers, rule = _by_profile(net, profile, full), f'profile of {type(net).__name__}'
    else:
        if options.layers:
            names, rule = select_layers(net, options.layers), 'patterns of the option file'
        else:
            names = generic_layers(net, in_channels)
            rule = 'generic rule: convolutions at the input resolution but the first and the last; no linear layers'
        layers = {'adaptive': names, 'features': names}
        if full:
            layers['ends'] = end_layers(net, in_channels, names, multiple)
            rule += '; ends: every other convolution at the input resolution or above'
    dropped = set(select_layers(net, options.exclude))
    kept = {kind: tuple(name for name in names if name not in dropped) for kind, names in layers.items()}
    plan = LayerPlan(rule, head, **kept)
    if not options.integer:
        return plan
    ahead = _ahead(net, profile, lambda: head or first_convolution(net, in_channels, multiple))
    # what a policy sees of the head is before its normalization
    names = [name for name in plan.quantized if name != head]
    return replace(
        plan,
        precise=tuple(name for name in ahead if name not in plan.quantized),
        norms=batch_norms_behind(net, names, in_channels, multiple),
    )


def _ahead(net: nn.Module, profile: BackboneProfile | None, find_head: Callable[[], str]) -> list[str]:
    """Modules ahead of quantized layers that can be precise, of a network without profile its head."""
    if profile:
        return select_modules(net, profile.precise)
    try:
        head = find_head()
    except DynqError:
        return []
    layer = net.get_submodule(head)
    return [head] if layer.padding_mode == 'zeros' and not isinstance(layer.padding, str) else []


def _first_registered(net: nn.Module) -> str:
    """Of networks that have a profile it is the one that runs first, and no forward is needed to know."""
    return next(name for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _find_profile(net: nn.Module, foreign: bool) -> BackboneProfile | None:
    """The profile of a network's class.

    A foreign class may have an architecture's name and other names for its layers (spandrel's RCAN, RRDBNet): the
    profile is not meant for it then.
    """
    profile = PROFILES.get(type(net).__name__)
    if profile and foreign:
        try:
            select_layers(net, profile.body)
        except DynqError:
            return None
    return profile


def _by_profile(net: nn.Module, profile: BackboneProfile, full: bool) -> dict[str, list[str]]:
    body = select_layers(net, profile.body)
    ends = select_layers(net, profile.ends) or [body[0], body[-1]]
    adaptive = select_layers(net, (*profile.body, *(profile.full if full else ())))
    features = select_layers(net, profile.features or profile.body)
    return {
        'adaptive': [name for name in adaptive if name not in ends],
        'static': select_layers(net, profile.static),
        'ends': ends if full else [],
        'features': [name for name in features if name not in ends],
    }
