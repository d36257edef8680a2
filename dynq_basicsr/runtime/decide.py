"""The bit policies in NumPy: at which bits a patch runs, as ``dynq_basicsr.policies`` decides in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from dynq_basicsr.errors import DynqError, check_number, shown
from dynq_basicsr.imaging.complexity import entropy, gradient_density
from dynq_basicsr.registry import Registry

Policy = Callable[[np.ndarray, np.ndarray], str]
# From the manifest's section and the controller to the policy and the codes that it can choose, by the type that a
# policy's ``runtime_spec`` names.
Rule = Callable[[Mapping, Callable | None], tuple[Policy, Iterable[str]]]
RULES: Registry[Rule] = Registry('policy', 'policy.type of the manifest')


def build_policy(
    options: Mapping, codes: Iterable[str], controller: Callable[[np.ndarray], np.ndarray] | None
) -> Policy:
    """The policy of a manifest.

    Args:
        options: Its section ``policy``.
        codes: Those that the folder has grids for.
        controller: (1, C, H, W) -> logits (1, choices), where the folder holds one.

    Returns:
        A function of a patch, (C, h, w), and of the same patch padded to what the network takes, that gives its code.

    Raises:
        DynqError: If this version does not know the policy, or it names a code that the folder does not have.
    """
    kind = options['type']
    if not isinstance(kind, str) or kind not in RULES:
        raise DynqError(f'policy {shown(kind)} is not known here; update dynq_basicsr, or export again with it.')
    policy, chosen = RULES[kind](options, controller)
    missing = sorted(set(chosen) - set(codes))
    if missing:
        raise DynqError(f'the policy can choose {shown(missing[0])}, which is no code of it; export the network again.')
    return policy


def _ascending(options: Mapping, key: str, whole: bool = False) -> list[float]:
    """Numbers of the manifest that must ascend; none stands for an empty list."""
    values = options[key] or []
    if not isinstance(values, list):
        raise DynqError(f'policy.{key} must be a list of numbers, not {shown(values)}; export the network again.')
    for value in values:
        check_number(f'policy.{key}', value, -1e6, 1e6, whole)
    if values != sorted(values):
        raise DynqError(f'policy.{key} must ascend, which {shown(values)} does not; export the network again.')
    return values


@RULES.register('fixed')
def _fixed(options: Mapping, controller: object) -> tuple[Policy, Iterable[str]]:
    code = options['code']
    return lambda patch, padded: code, [code]


@RULES.register('image_complexity')
def _image_complexity(options: Mapping, controller: object) -> tuple[Policy, Iterable[str]]:
    thresholds, codes = _ascending(options, 'thresholds'), list(options['codes'])
    if len(codes) != len(thresholds) + 1:
        raise DynqError('the policy needs one code more than thresholds; export the network again.')
    # on a threshold, the code nearer to the middle, as in policies/image_layer.py
    lower, upper = np.split(np.float64(thresholds), [len(thresholds) // 2])

    def policy(patch: np.ndarray, padded: np.ndarray) -> str:
        value = gradient_density(patch)
        return codes[np.searchsorted(lower, value, side='right') + np.searchsorted(upper, value, side='left')]

    return policy, codes


@RULES.register('granularity_entropy')
def _granularity_entropy(options: Mapping, controller: Callable | None) -> tuple[Policy, Iterable[str]]:
    choices, entropy_bits = _ascending(options, 'choices', whole=True), _ascending(options, 'entropy_bits', whole=True)
    thresholds, codes = _ascending(options, 'thresholds'), options['codes']
    if controller is None and len(choices) != 1:
        raise DynqError('the policy needs a controller, and the manifest names none; export the network again.')
    if entropy_bits and len(entropy_bits) != len(thresholds) + 1:
        raise DynqError('the policy needs one of entropy_bits more than thresholds; export the network again.')

    def choose(padded: np.ndarray) -> int:
        logits = controller(padded[None])[0]
        if logits.shape != (len(choices),) or not np.isfinite(logits).all():
            raise DynqError(
                f'the controller gives {logits.shape} values, or values that are not finite, for {len(choices)} '
                'choices; export the network again.'
            )
        return int(logits.argmax())

    def policy(patch: np.ndarray, padded: np.ndarray) -> str:
        choice = len(choices) - 1 if controller is None else choose(padded)
        if choice < len(choices) - 1 or not entropy_bits:
            return codes[str(choices[choice])]
        return codes[str(entropy_bits[np.searchsorted(thresholds, entropy(patch))])]

    bits = (*choices[:-1], *(entropy_bits or choices[-1:]))
    return policy, [codes[str(one)] for one in bits]
