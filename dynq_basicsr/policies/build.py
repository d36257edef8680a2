"""Policies from the section of an option file."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from dynq_basicsr.config.section import Section
from dynq_basicsr.errors import DynqError, check_keys, shown
from dynq_basicsr.policies import POLICIES, BitPolicy
from dynq_basicsr.policies.base import AdaptiveBody

_SECTION = 'network_g.policy'


def policy_options(options: Mapping | None) -> dict[str, object]:
    """Options of a policy as they take effect: what is given, and the defaults.

    Raises:
        DynqError: If the type or an option is unknown.
    """
    options = read_policy(options)
    return options.model_dump() if isinstance(options, Section) else options


def read_policy(options: Mapping | None) -> Section | dict[str, object]:
    """Check the section.

    Returns:
        The options as an object of the policy's own class, or, where it has none, as a mapping with all defaults.

    Raises:
        DynqError: If the type or an option is unknown.
    """
    if options is not None and not isinstance(options, Mapping):
        raise DynqError(f'{_SECTION}: must be a mapping of options, not {shown(options)}.')
    options = dict(options or {'type': 'Fixed'})
    policy = POLICIES[options.get('type')]
    if policy.options_type is not None:
        return policy.options_type.from_dict(options, _SECTION)
    parameters = list(inspect.signature(policy.__init__).parameters.values())[2:]  # behind self and the body
    check_keys(_SECTION, options, ['type', *(one.name for one in parameters)])
    missing = [one.name for one in parameters if one.default is one.empty and one.name not in options]
    if missing:
        raise DynqError(f'{_SECTION}: {options["type"]} needs {", ".join(missing)}.')
    return {one.name: one.default for one in parameters} | options


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
    given = read_policy(options)
    if isinstance(given, Section):
        return POLICIES[given.type](body, given)
    kind = given.pop('type')
    return POLICIES[kind](body, **given)
