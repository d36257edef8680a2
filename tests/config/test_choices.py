"""What the sections offer is what the code that uses it knows, and the other way round."""

import inspect
from typing import get_args

import pytest
from basicsr.models import lr_scheduler

import dynq_basicsr.config as config
from dynq_basicsr.config.adabm import AdaBMOptions, LossWeights
from dynq_basicsr.config.policies import AdaBMPolicyOptions, FixedOptions, GranularDQPolicyOptions
from dynq_basicsr.config.quantization import ActivationOptions, QuantizationOptions, WeightOptions
from dynq_basicsr.config.run import RUNS
from dynq_basicsr.config.training import CosineOptions, MultiStepOptions, Precision
from dynq_basicsr.models.adabm_model import AdaBMModel
from dynq_basicsr.models.granular_model import GranularDQModel
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.numerics.fake_quantize import GRADIENTS
from dynq_basicsr.numerics.matmul import PRECISIONS
from dynq_basicsr.policies import POLICIES
from dynq_basicsr.quantization.grids import GRIDS
from dynq_basicsr.quantization.quantizers import QUANTIZERS
from dynq_basicsr.training.feature_matching import FEATURE_LOSSES


def choices(section, key):
    return get_args(section.model_fields[key].annotation)


@pytest.mark.parametrize('offered, known', [
    (get_args(Precision), PRECISIONS), (choices(WeightOptions, 'grid'), GRIDS),
    (choices(ActivationOptions, 'grid'), GRIDS), (choices(QuantizationOptions, 'rounding_gradient'), GRADIENTS),
    (choices(LossWeights, 'feature_form'), FEATURE_LOSSES), (choices(AdaBMOptions, 'precision'), PRECISIONS),
])  # fmt: skip
def test_choices_are_those_of_the_code(offered, known):
    assert tuple(offered) == tuple(known)


def test_built_in_policies_have_their_options():
    assert {name: POLICIES[name].options_type for name in ('Fixed', 'AdaBM', 'GranularDQ')} == {
        'Fixed': FixedOptions, 'AdaBM': AdaBMPolicyOptions, 'GranularDQ': GranularDQPolicyOptions,
    }  # fmt: skip


def test_the_default_quantizer_is_there():
    assert ActivationOptions().quantizer in QUANTIZERS


def test_each_model_has_its_run():
    models = (QuantizedModel, AdaBMModel, GranularDQModel)
    assert {model.__name__: model.options_type for model in models} == RUNS


@pytest.mark.parametrize('section, scheduler', [
    (MultiStepOptions, lr_scheduler.MultiStepRestartLR), (CosineOptions, lr_scheduler.CosineAnnealingRestartLR),
])  # fmt: skip
def test_schedulers_take_what_is_offered(section, scheduler):
    parameters = dict(inspect.signature(scheduler).parameters)
    for name in ('optimizer', 'last_epoch'):
        del parameters[name]
    assert set(section.model_fields) == {'type', *parameters}
    for name, parameter in parameters.items():
        field = section.model_fields[name]
        assert field.is_required() == (parameter.default is parameter.empty)
        assert field.is_required() or field.default == parameter.default


def test_the_room_needs_no_torch(repository):
    import subprocess
    import sys

    code = 'import sys, dynq_basicsr.config.reference\nassert not {"torch", "basicsr", "cv2"} & set(sys.modules)'
    done = subprocess.run([sys.executable, '-c', code], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0 and config.__doc__, done.stderr
