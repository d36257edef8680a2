"""Policies by the name that option files use."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from dynq_basicsr.errors import DynqError, check_keys, nearest
from dynq_basicsr.policies.base import AdaptiveBody, BitPolicy
from dynq_basicsr.policies.fixed import FixedPolicy
from dynq_basicsr.policies.granularity_entropy import GranularityEntropyPolicy
from dynq_basicsr.policies.image_layer import ImageLayerPolicy

POLICIES: dict[str, type[BitPolicy]] = {
    'Fixed': FixedPolicy,
    'AdaBM': ImageLayerPolicy,
    'GranularDQ': GranularityEntropyPolicy,
}


def policy_options(options: Mapping | None) -> dict[str, object]:
    """Options of a policy as they take effect: what is given, and the defaults."""
    options = dict(options or {'type': 'Fixed'})
    parameters = list(inspect.signature(POLICIES[options['type']].__init__).parameters.values())[2:]
    return {one.name: one.default for one in parameters} | options


def needs_shallow(options: Mapping | None) -> bool:
    """Whether a policy of this type may look at the shallow feature; false where the type is wrong."""
    kind = options.get('type') if isinstance(options, Mapping) else None
    return isinstance(kind, str) and kind in POLICIES and POLICIES[kind].needs_shallow


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
    if not isinstance(kind, str) or kind not in POLICIES:
        raise DynqError(
            f'network_g.policy.type: no policy {kind!r}.{nearest(kind, POLICIES)} Known: {", ".join(POLICIES)}.'
        )
    known = list(inspect.signature(POLICIES[kind].__init__).parameters)[2:]
    check_keys('network_g.policy', options, ['type', *known])
    return POLICIES[kind](body, **options)
