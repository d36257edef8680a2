"""Policies from the section of an option file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from dynq_basicsr.errors import DynqError, check_keys
from dynq_basicsr.policies import POLICIES, BitPolicy
from dynq_basicsr.policies.base import AdaptiveBody


def policy_options(options: Mapping | None) -> dict[str, object]:
    """Options of a policy as they take effect: what is given, and the defaults."""
    options = dict(options or {'type': 'Fixed'})
    return {one.name: one.default for one in _parameters(options['type'])} | options


def needs_shallow(options: Mapping | None) -> bool:
    """Whether a policy of this type may look at the shallow feature; false where the type is wrong."""
    kind = options.get('type') if isinstance(options, Mapping) else None
    return kind in POLICIES and POLICIES[kind].needs_shallow


def build_policy(options: Mapping | None, body: AdaptiveBody) -> BitPolicy:
    """Build the policy that an option file asks for.

    Args:
        options: ``{type: ..., further options}``; ``None`` gives the fixed policy.
        body: What it is told of the network.

    Raises:
        DynqError: If the type or an option is unknown.
    """
    if options is not None and not isinstance(options, Mapping):
        raise DynqError(f'network_g.policy: expected a mapping with a type, got {options!r}.')
    options = dict(options or {'type': 'Fixed'})
    kind = options.pop('type', None)
    policy = POLICIES[kind]
    check_keys('network_g.policy', options, ['type', *(one.name for one in _parameters(kind))])
    return policy(body, **options)


def _parameters(kind: str) -> list[inspect.Parameter]:
    """Those of a policy's constructor behind ``self`` and the body."""
    return list(inspect.signature(POLICIES[kind].__init__).parameters.values())[2:]
