"""The option files as a JSON schema, by which editors check and complete them."""

from __future__ import annotations

from typing import Any

from dynq_basicsr.config.datasets import OtherDataSetOptions
from dynq_basicsr.config.evaluation import OtherMetricOptions
from dynq_basicsr.config.network import FloatNetworkOptions
from dynq_basicsr.config.policies import OtherPolicyOptions
from dynq_basicsr.config.run import RUNS, RunOptions

_OTHERS = (OtherDataSetOptions, FloatNetworkOptions, OtherPolicyOptions, OtherMetricOptions)


def schema() -> dict[str, Any]:
    """The schema, in JSON Schema's draft 2020-12."""
    whole = RunOptions.model_json_schema()
    definitions, rules = whole['$defs'], []
    for name, run in RUNS.items():
        own = run.model_json_schema()
        definitions |= own['$defs']
        rules.append(
            {
                'if': {'properties': {'model_type': {'const': name}}, 'required': ['model_type']},
                'then': {'properties': {'train': own['properties']['train']}},
            }
        )
    whole['properties']['train'] = {'type': ['object', 'null'], 'description': 'How to train; see model_type.'}
    ours = sorted({kind for one in definitions.values() for kind in _kinds(one)})
    for other in _OTHERS:  # or a section of ours with a mistake would pass for one of these
        definitions[other.__name__]['properties']['type']['not'] = {'enum': ours}
    return _without_null_defaults(
        {
            '$schema': 'https://json-schema.org/draft/2020-12/schema',
            **whole,
            'title': 'Option files of dynq_basicsr',
            'allOf': rules,
        }
    )


def _kinds(definition: dict[str, Any]) -> list[str]:
    """The values of the key ``type`` of a section of ours."""
    kind = definition['properties'].get('type', {})
    return [kind['const']] if 'const' in kind else kind.get('enum', [])


def _without_null_defaults(value: Any) -> Any:
    """Null stands for keys that are absent, and is no value that one could write."""
    if isinstance(value, dict):
        return {
            key: _without_null_defaults(one) for key, one in value.items() if not (key == 'default' and one is None)
        }
    return [_without_null_defaults(one) for one in value] if isinstance(value, list) else value
