"""Which layers of a backbone are quantized, and how: its profile, or what stands in for one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import nn

from dynq_basicsr.archs.probe import Probed
from dynq_basicsr.backbones.profiles import PROFILES, BackboneProfile
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.data_flow import DataFlow, trace
from dynq_basicsr.quantization.generic_rule import (
    BODY,
    END,
    HEAD,
    RULE,
    Role,
    batch_norms_behind,
    body_layers,
    find_roles,
    first_convolution,
    layers_of,
    mean_shifts,
)
from dynq_basicsr.quantization.selection import PROBE_SIZE, select_layers, select_modules


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
        roles: Of every convolution and linear layer, where the generic rule was asked.
        runs: How often each layer runs in a forward, where that was looked at; a layer of a profile runs once.
    """

    rule: str
    head: str
    adaptive: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    precise: tuple[str, ...] = ()
    norms: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, Role] = field(default_factory=dict)
    runs: Mapping[str, int] = field(default_factory=dict)

    @property
    def quantized(self) -> tuple[str, ...]:
        """All quantized layers."""
        return (*self.adaptive, *self.static, *self.ends)


class _Network:
    """A float network, and what one forward tells of it, if anybody asks."""

    def __init__(self, net: nn.Module, takes: Probed) -> None:
        self.net, self.takes = net, takes

    @cached_property
    def flow(self) -> DataFlow:
        """One forward of a square; its sides are a multiple of every usual window."""
        like = next(iter(self.net.parameters()), torch.zeros(()))
        side = self.takes.sizes.padded(PROBE_SIZE)
        return trace(self.net, like.new_zeros(1, self.takes.in_channels, side, side))

    @cached_property
    def roles(self) -> dict[str, Role]:
        """What the generic rule says of its layers."""
        return find_roles(self.net, self.flow)


def plan_layers(
    net: nn.Module, takes: Probed, options: QuantizationOptions, needs_head: bool = False
) -> LayerPlan:
    """Choose layers by the patterns of the option file, else the profile, else a generic rule; then leave out.

    Without a profile, or with patterns, scope ``full`` takes as ends what the generic rule takes for head, body or ends
    and no pattern names.

    Args:
        net: The float network.
        takes: What it takes and gives.
        options: The ``quantization`` section.
        needs_head: Whether somebody looks at the shallow feature; a network without a profile runs once to find it.

    Raises:
        DynqError: If a pattern matches nothing, or no rule fits.
    """
    profile, looked = _find_profile(net), _Network(net, takes)
    head = ''
    if needs_head:
        head = _first_registered(net) if profile else first_convolution(net, looked.flow)
    if not options.enabled:
        return LayerPlan('quantization is off', head)
    full = options.scope == 'full'
    if profile and not options.layers:
        layers, rule = _by_profile(net, profile, full), f'profile of {type(net).__name__}'
    else:
        if options.layers:
            names, rule = select_layers(net, options.layers), 'patterns of the option file'
        else:
            names, rule = body_layers(net, looked.roles), RULE
        layers = {'adaptive': names, 'features': names}
        if full:
            layers['ends'] = [one for one in layers_of(looked.roles, HEAD, BODY, END) if one not in names]
    dropped = set(select_layers(net, options.exclude))
    kept = {kind: tuple(name for name in names if name not in dropped) for kind, names in layers.items()}
    plan = LayerPlan(rule, head, **kept)
    if 'flow' in vars(looked):
        plan = replace(plan, runs={name: len(steps) for name, steps in looked.flow.runs().items()})
    if 'roles' in vars(looked):
        plan = replace(plan, roles=looked.roles)
    if not options.integer:
        return plan
    ahead = select_modules(net, profile.precise) if profile else _ahead(looked)
    # what a policy sees of the head is before its normalization
    names = [name for name in plan.quantized if name != head]
    return replace(
        plan,
        precise=tuple(name for name in ahead if name not in plan.quantized),
        norms=batch_norms_behind(net, looked.flow, names) if _has_norms(net) else {},
    )


def _ahead(looked: _Network) -> list[str]:
    """Of a network without profile, what runs ahead of quantized layers and can be precise: head and mean shifts."""
    try:
        names = [*mean_shifts(looked.net, looked.flow), first_convolution(looked.net, looked.flow)]
    except DynqError:
        return []
    return [name for name in names if _can_be_precise(looked.net.get_submodule(name))]


def _can_be_precise(module: nn.Module) -> bool:
    return type(module) is nn.Conv2d and module.padding_mode == 'zeros' and not isinstance(module.padding, str)


def _has_norms(net: nn.Module) -> bool:
    return any(type(module) is nn.BatchNorm2d and module.running_var is not None for module in net.modules())


def _first_registered(net: nn.Module) -> str:
    """Of networks that have a profile it is the one that runs first, and no forward is needed to know."""
    return next(name for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _find_profile(net: nn.Module) -> BackboneProfile | None:
    """The profile of a network's class.

    A foreign class may have an architecture's name and other names for its layers (spandrel's RCAN and RRDBNet, a
    plug-in's EDSR): the profile is not meant for it then.
    """
    profile = PROFILES.get(type(net).__name__)
    if profile is None:
        return None
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
