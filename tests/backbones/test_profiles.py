"""Profiles are data about architectures that exist."""

import pytest
from basicsr.utils.registry import ARCH_REGISTRY

from dynq_basicsr.backbones.profiles import PROFILES


@pytest.mark.parametrize('kind', PROFILES)
def test_a_profile_describes_a_registered_architecture(kind):
    assert kind in {name.removesuffix('_basicsr') for name, _ in ARCH_REGISTRY}
    assert PROFILES[kind].body and isinstance(PROFILES[kind].body, tuple)


def test_the_papers_backbones_have_profiles():
    papers = {'EDSR', 'MSRResNet', 'RCAN', 'RRDBNet', 'SwinIR', 'SRVGGNetCompact', 'SRResNetBN', 'RDN', 'IDN'}
    assert set(PROFILES) >= papers
