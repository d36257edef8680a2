"""Profiles are data about architectures that exist."""

import pytest
from basicsr.utils.registry import ARCH_REGISTRY

from dynq_basicsr.backbones.profiles import PROFILES

# met only as what spandrel recognises
FOREIGN = {'DAT'}


@pytest.mark.parametrize('kind', PROFILES)
def test_a_profile_describes_an_architecture_that_can_be_built(kind):
    assert kind in {name.removesuffix('_basicsr') for name, _ in ARCH_REGISTRY} | FOREIGN
    assert PROFILES[kind].body and isinstance(PROFILES[kind].body, tuple)


def test_the_papers_backbones_have_profiles():
    papers = {'EDSR', 'MSRResNet', 'RCAN', 'RRDBNet', 'SwinIR', 'SRVGGNetCompact', 'SRResNetBN', 'RDN', 'IDN', 'HAT'}
    assert set(PROFILES) >= papers
