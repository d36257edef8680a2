"""Policies by name, with their options checked."""

import pytest

from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies.base import AdaptiveBody
from dynq_basicsr.policies.build import build_policy, needs_shallow, policy_options
from dynq_basicsr.policies.fixed import FixedPolicy
from dynq_basicsr.policies.image_layer import ImageLayerPolicy

FOUR = AdaptiveBody(4, ActivationOptions(bits=4), 8)


@pytest.mark.parametrize('options', [None, {}, {'type': 'Fixed'}])
def test_fixed_is_the_default(options):
    assert type(build_policy(options, FOUR)) is FixedPolicy


def test_options_reach_the_policy():
    given = {'type': 'AdaBM', 'image_factors': [-2, 0, 2], 'layer_to_bit': False}
    policy = build_policy(given, FOUR)
    assert type(policy) is ImageLayerPolicy and policy.layer_factors.shape == (4,)
    assert policy.image_factors.tolist() == [-2, 0, 2] and not policy.layer_to_bit
    assert given['type'] == 'AdaBM'  # the option file stays as it was


@pytest.mark.parametrize('options, named', [
    ({'type': 'Fixd'}, "no policy 'Fixd'.*'Fixed'"),
    ({'type': None}, 'no policy None.*Known: Fixed, GranularDQ, AdaBM'),
    ({'image_factors': [0, 1]}, 'no policy None'),
    ({'type': 'AdaBM', 'image_factor': [0, 1]}, "unknown option 'image_factor'.*'image_factors'"),
    ({'type': 'AdaBM', 'body': 3}, "unknown option 'body'"),
    ({'type': 'Fixed', 'bits': 4}, "unknown option 'bits'"),
])  # fmt: skip
def test_unknown_names_are_refused(options, named):
    with pytest.raises(DynqError, match=named):
        build_policy(options, FOUR)


@pytest.mark.parametrize('options', ['AdaBM', ['AdaBM'], {'type': ['AdaBM']}])
def test_sections_of_the_wrong_kind_are_refused(options):
    with pytest.raises(DynqError, match=r'network_g\.policy'):
        build_policy(options, FOUR)


def test_options_as_they_take_effect():
    given = {'type': 'AdaBM', 'layer_percentile': 20}
    assert policy_options(given) == {
        'image_to_bit': True, 'layer_to_bit': True, 'image_factors': (-1, 0, 1), 'image_percentile': 10,
        'layer_percentile': 20, 'type': 'AdaBM',
    }  # fmt: skip
    assert policy_options(None) == policy_options({}) == {'type': 'Fixed'}
    assert given == {'type': 'AdaBM', 'layer_percentile': 20}


@pytest.mark.parametrize('options, expected', [
    ({'type': 'GranularDQ'}, True), ({'type': 'AdaBM'}, False), (None, False), ({}, False), ('GranularDQ', False),
    ({'type': 'Granular'}, False), ({'type': ['GranularDQ']}, False),
])  # fmt: skip
def test_who_looks_at_the_shallow_feature_is_known_before_it_is_built(options, expected):
    assert needs_shallow(options) is expected
