"""Methods as sections of an option file."""

import pytest

from dynq_basicsr.config.adabm import AdaBMOptions
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.workflow.recipes import METHODS, choose_recipe, network_sections, train_section


def sections(method, recipe, bits, weight_bits, scope, images, patch):
    made = choose_recipe(method, recipe)
    return {**network_sections(made, bits, weight_bits, scope), 'train': train_section(made, images, patch)}


ALL = [(method, recipe) for method, recipes in METHODS.items() for recipe in recipes]


@pytest.mark.parametrize(('method', 'recipe'), ALL)
def test_every_recipe_is_a_sound_option_file(method, recipe):
    made = sections(method, recipe, 4, 8, 'full', images=7, patch=48)
    train = AdaBMOptions.from_dict(made['train'])
    quantization = QuantizationOptions.from_dict(made['quantization'])
    assert train.calibration_iter == 4  # seven images in pairs
    assert train.total_iter - train.calibration_iter == METHODS[method][recipe]['tuning']
    assert train.patch_size in (None, 48)
    assert (quantization.weight.bits, quantization.activation.bits, quantization.scope) == (8, 4, 'full')
    assert made['policy']['type'] == ('AdaBM' if method == 'adabm' else 'Fixed')


def test_the_first_recipe_is_the_default():
    assert sections('adabm', None, 4, 4, 'body', 10, 96) == sections('adabm', 'fast', 4, 4, 'body', 10, 96)


def test_recipes_share_nothing_that_a_caller_could_change():
    sections('adabm', 'fast', 4, 4, 'body', 10, 96)['policy']['type'] = 'changed'
    assert sections('adabm', 'fast', 4, 4, 'body', 10, 96)['policy']['type'] == 'AdaBM'


@pytest.mark.parametrize(
    ('method', 'recipe', 'told'), [('adabn', None, "Did you mean 'adabm'"), ('ptq4sr', 'fast', 'ptq4sr has paper')]
)
def test_what_does_not_exist_is_refused(method, recipe, told):
    with pytest.raises(DynqError, match=told):
        sections(method, recipe, 4, 4, 'body', 10, 96)
