"""Methods that quantize a trained network, as sections of an option file."""

from __future__ import annotations

from collections.abc import Mapping

from dynq_basicsr.errors import DynqError, nearest, shown

BATCH = 2
PATCH = 96  # side of calibration patches, LR pixels
TUNED_PATCH = 64  # of patches that fine-tuning sees, where the recipe says so

_ADAPTIVE = {'type': 'AdaBM'}
_STATIC = {'type': 'Fixed'}
_JOINT = {'stages': ['joint'], 'patch_size': TUNED_PATCH, 'lr_schedule': 'cosine'}
_RATES = {'weight': 0.01, 'activation': 0.03, 'layer': 0.04, 'image': 0.4}



def _static(**rules: object) -> dict[str, dict]:
    """Recipes of a method that sets ranges by a rule: by it alone, or fine-tuned as long as AdaBM's fast recipe."""
    rules['bit_aware_clipping'] = False
    rates = {'lr': {'weight': _RATES['weight'], 'activation': _RATES['activation']}}
    return {
        'paper': {'policy': _STATIC, 'tuning': 0, 'train': rules},
        'fast': {'policy': _STATIC, 'tuning': 150, 'train': {**_JOINT, **rates, **rules}},
    }


# Method -> recipe -> what it is made of; the first recipe of a method is its default. ``tuning`` counts iterations of
# fine-tuning; calibration sees every image once.
METHODS: dict[str, dict[str, dict]] = {
    'adabm': {
        'fast': {'policy': _ADAPTIVE, 'tuning': 150, 'train': {**_JOINT, 'lr': _RATES, 'clipping_norm': 1}},
        'plus': {
            'policy': _ADAPTIVE,
            'tuning': 400,
            'weight': {'rounding': 'learned'},
            'train': {
                **_JOINT,
                'lr': {**_RATES, 'rounding': 0.005},
                'loss': {'bit': 10, 'bit_momentum': 0.9},
                'clipping_norm': 1,
            },
        },
        # Table 1: three stages in turn, ten epochs of fifty iterations
        'paper': {'policy': _ADAPTIVE, 'tuning': 500, 'train': {'stage_iter': 50, 'lr_decay': 0.9}},
    },
    'minmax': _static(weight_range='minmax', activation_range='minmax'),
    'percentile': _static(weight_range='percentile', activation_range='percentile', percentile=1),
    'ptq4sr': {
        'paper': {
            'policy': _STATIC,
            'tuning': 500,
            'weight': {'granularity': 'channel'},
            'train': {
                'stage_iter': 50,
                'patch_size': TUNED_PATCH,
                'stages': ['activation'] * 5 + ['weight'] * 5,
                'lr': {'weight': 0.0005, 'activation': 0.005},
                'lr_decay': 0.8,
                'loss': {'feature': 5, 'feature_form': 'attention'},
                'weight_range': 'minmax',
                'activation_range': 'density',
                'bit_aware_clipping': False,
            },
        },
    },
}


def choose_recipe(method: str, recipe: str | None) -> dict:
    """One of ``METHODS``' recipes.

    Args:
        method: One of ``METHODS``.
        recipe: One of the method's; None: its first.

    Raises:
        DynqError: If there is no such method or recipe.
    """
    if not isinstance(method, str) or method not in METHODS:
        raise DynqError(f'method: must be one of {", ".join(METHODS)}, not {shown(method)}.{nearest(method, METHODS)}')
    recipes = METHODS[method]
    recipe = next(iter(recipes)) if recipe is None else recipe
    if not isinstance(recipe, str) or recipe not in recipes:
        raise DynqError(f'recipe: {method} has {" and ".join(recipes)}, not {shown(recipe)}.')
    return recipes[recipe]


def network_sections(made: Mapping, bits: int, weight_bits: int, scope: str) -> dict[str, dict]:
    """What a recipe makes of ``network_g``.

    Args:
        made: The recipe.
        bits: Base bits of activations, 2..8.
        weight_bits: Bits of weights, 2..8.
        scope: ``body`` or ``full``, see ``QuantizationOptions``.

    Returns:
        ``quantization`` and ``policy``.
    """
    return {
        'quantization': {
            'scope': scope,
            'weight': {'bits': weight_bits, **made.get('weight', {})},
            'activation': {'bits': bits},
        },
        'policy': dict(made['policy']),
    }


def train_section(made: Mapping, images: int, patch: int) -> dict[str, object]:
    """What a recipe makes of ``train``.

    Args:
        made: The recipe.
        images: How many there are to calibrate with.
        patch: Side of the patches that calibration sees, LR pixels.
    """
    calibration = -(-images // BATCH)
    train = {'total_iter': calibration + made['tuning'], 'calibration_iter': calibration, **made['train']}
    if 'patch_size' in train:
        train['patch_size'] = min(train['patch_size'], patch)
    return train
