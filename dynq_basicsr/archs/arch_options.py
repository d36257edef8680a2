"""Options of an architecture, checked against its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from basicsr.utils.registry import ARCH_REGISTRY

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


def option_value(options: Mapping, key: str) -> object:
    """An option of an architecture, or the constructor's default where it is not given."""
    return options[key] if key in options else _parameters(options['type'])[key].default


def _parameters(kind: str) -> Mapping[str, inspect.Parameter]:
    arch = ARCH_REGISTRY.get(kind if kind in ARCH_REGISTRY else f'{kind.removesuffix("_basicsr")}_basicsr')
    return inspect.signature(arch).parameters
