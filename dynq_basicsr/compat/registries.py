"""Names in BasicSR's registries, beside other packages that register theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY, Registry

SUFFIX = 'basicsr'  # under which BasicSR looks, too, for a name that nobody registered plainly
_PACKAGE = __name__.partition('.')[0]


def add(registry: Registry, thing: Any) -> None:
    """Enter a class or function of ours so that one of the same name in another package wins; once.

    Args:
        registry: One of BasicSR's.
        thing: A class or a function.
    """
    if f'{thing.__name__}_{SUFFIX}' not in registry:
        registry.register(thing, suffix=SUFFIX)


def find(registry: Registry, name: object) -> Any | None:
    """What BasicSR takes for a name in an option file.

    Args:
        registry: One of BasicSR's.
        name: As in the option file.

    Returns:
        A class or a function; None where nothing is registered.
    """
    if not isinstance(name, str):
        return None
    known = dict(iter(registry))
    return known.get(name, known.get(f'{name}_{SUFFIX}'))


def names(registry: Registry) -> list[str]:
    """The names by which option files call what is registered, sorted."""
    return sorted({name.removesuffix(f'_{SUFFIX}') for name, _ in registry})


def is_ours(thing: Any) -> bool:
    """Whether a function is of this package, or a class of it or derived from one of it."""
    origins = [getattr(base, '__module__', None) or '' for base in getattr(thing, '__mro__', (thing,))]
    return any(origin.partition('.')[0] == _PACKAGE for origin in origins)


def run_is_ours(opt: Mapping) -> bool:
    """Whether a run uses a model, network, data set or metric of ours; any other is BasicSR's business alone.

    Args:
        opt: BasicSR's options.
    """
    return any(is_ours(find(registry, name)) for registry, name in _types(opt))


def _types(opt: Mapping) -> Iterator[tuple[Registry, object]]:
    yield MODEL_REGISTRY, opt.get('model_type')
    for registry, sections in (
        (ARCH_REGISTRY, [section for key, section in opt.items() if str(key).startswith('network_')]),
        (DATASET_REGISTRY, (opt.get('datasets') or {}).values()),
        (METRIC_REGISTRY, ((opt.get('val') or {}).get('metrics') or {}).values()),
    ):
        for section in sections:
            yield registry, section.get('type') if isinstance(section, Mapping) else None


def name_is_not_found_use_name() -> None:
    """Keep BasicSR from calling our types lost each time that it finds them.

    Symptom: ``Name AdaBMModel is not found, use name: AdaBMModel_basicsr!``, for metrics once an image.
    Cause: BasicSR prints this for whatever is registered with a suffix.
    Cure: what is ours is handed out without the line; for anything else, BasicSR's own code answers.
    """
    if Registry.get is not _get:
        Registry.get = _get


_plain_get = Registry.get


def _get(self: Registry, name: str, suffix: str = SUFFIX) -> Any:
    if name not in self and f'{name}_{suffix}' in self:
        found = _plain_get(self, f'{name}_{suffix}')
        if is_ours(found):
            return found
    return _plain_get(self, name, suffix)
