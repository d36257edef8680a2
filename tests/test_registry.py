"""A name is one class's, and an unknown name is told what is near."""

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.policies import POLICIES
from dynq_basicsr.quantization.quantizers import QUANTIZERS
from dynq_basicsr.registry import Registry


@pytest.fixture
def registry():
    return Registry('policy', 'network_g.policy.type')


def build(name='Own', module='somewhere'):
    return type(name, (), {'__module__': module})


def test_a_class_is_found_by_its_name_and_stays_what_it_is(registry):
    first, second = build(), build('Other')
    assert registry.register('own')(first) is first
    registry.register('other')(second)
    assert registry['own'] is first and registry['other'] is second
    assert list(registry) == ['own', 'other'] and 'own' in registry and 'Own' not in registry


@pytest.mark.parametrize('other', [build(module='elsewhere'), build('Other')])
def test_a_second_class_of_one_name_is_refused(registry, other):
    first = registry.register('own')(build())
    with pytest.raises(DynqError, match=rf"policy 'own' is registered twice, by somewhere and by {other.__module__}"):
        registry.register('own')(other)
    assert registry['own'] is first


def test_the_same_class_imported_anew_takes_the_place_of_the_old(registry):
    """As a notebook's reload does."""
    registry.register('own')(build())
    again = registry.register('own')(build())
    assert registry['own'] is again and list(registry) == ['own']


def test_a_class_may_have_two_names(registry):
    cls = build()
    registry.register('one')(cls)
    registry.register('two')(cls)
    assert registry['one'] is registry['two'] is cls


@pytest.mark.parametrize('name, words', [
    ('onw', r"network_g\.policy\.type: no policy 'onw'.*'own'.*Known: own, other\."),
    (None, 'no policy None'),
    (['own'], r"no policy \['own'\]"),
])  # fmt: skip
def test_what_is_not_there_is_named_with_what_is_near(registry, name, words):
    registry.register('own')(build())
    registry.register('other')(build('Other'))
    assert name not in registry
    with pytest.raises(DynqError, match=words):
        registry[name]


def test_the_packages_own_are_there():
    assert sorted(POLICIES) == ['AdaBM', 'Fixed', 'GranularDQ']
    assert list(QUANTIZERS) == ['range', 'learned_range', 'learned_step', 'pams']
