"""Entropy of grey levels against the definition, pixel by pixel."""

import math

import pytest
import torch

from dynq_basicsr.policies.complexity import entropy


def by_definition(patch):
    """Kernel estimate of one patch (C, H, W), every pixel and level by itself, in float64."""
    patch = patch.double()
    grey = (0.299 * patch[0] + 0.587 * patch[1] + 0.114 * patch[2]) if len(patch) == 3 else patch.mean(0)
    masses = []
    for level in range(32):
        kernel = [math.exp(-0.5 * ((value - level / 31) / 0.0255) ** 2) for value in grey.flatten().tolist()]
        masses.append(sum(kernel) / len(kernel))
    shares = [mass / sum(masses) for mass in masses]
    return -sum(share * math.log(share) for share in shares if share > 0)


@pytest.mark.parametrize('shape', [(3, 9, 13), (1, 6, 6), (3, 1, 1), (4, 5, 3)])
def test_it_is_the_definition(shape):
    torch.manual_seed(0)
    patches = torch.rand(3, *shape) ** 2
    expected = torch.tensor([by_definition(patch) for patch in patches])
    torch.testing.assert_close(entropy(patches), expected, rtol=1e-4, atol=1e-4)


def test_a_constant_patch_has_the_published_codes_floor():
    """1.184 nats by METHODS; a level half way between two bins, 1.205."""
    values = entropy(torch.stack([torch.full((3, 8, 8), value / 31) for value in (16, 16.5)]))
    assert values.tolist() == pytest.approx([1.184, 1.205], abs=0.03)


def test_all_levels_alike_have_the_most():
    ramp = torch.linspace(0, 1, 32 * 64).view(1, 1, 32, 64)
    assert math.log(32) - 0.02 < entropy(ramp).item() <= math.log(32)


def test_samples_are_independent():
    torch.manual_seed(1)
    patches = torch.rand(5, 3, 12, 7)
    torch.testing.assert_close(entropy(patches), torch.cat([entropy(patch[None]) for patch in patches]))


@pytest.mark.parametrize('value', [0.0, 1.0])
def test_black_and_white_are_finite(value):
    assert torch.isfinite(entropy(torch.full((1, 3, 4, 4), value))).all()
