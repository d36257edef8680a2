"""The policies in NumPy against those in PyTorch."""

import math

import cv2
import numpy as np
import pytest
import torch

from dynq_basicsr.config.policies import AdaBMPolicyOptions, GranularDQPolicyOptions  # noqa: E402
from dynq_basicsr.config.quantization import ActivationOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.complexity import entropy, gradient_density
from dynq_basicsr.policies import complexity
from dynq_basicsr.policies.base import AdaptiveBody
from dynq_basicsr.policies.granularity_entropy import GranularityEntropyPolicy
from dynq_basicsr.policies.image_layer import ImageLayerPolicy
from dynq_basicsr.runtime.decide import build_policy


def patches_of(image: np.ndarray, size: int = 24) -> list[np.ndarray]:
    image = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    return [
        image[:, top : top + size, left : left + size]
        for top in range(0, image.shape[1] - size + 1, size)
        for left in range(0, image.shape[2] - size + 1, size)
    ]


@pytest.fixture
def patches(photo):
    return patches_of(photo(100, 240)) + [np.full((3, 9, 9), 0.5, np.float32), np.ones((3, 1, 1), np.float32)]


@pytest.fixture
def real_patches(shared_data):
    folder = shared_data / 'benchmarks/Set5/LR_bicubic/X4'
    images = [cv2.imread(str(path))[..., ::-1] for path in sorted(folder.glob('*.png'))]
    assert len(images) == 5
    return [patch for image in images for patch in patches_of(image, 32)]


@pytest.mark.parametrize('name', ['gradient_density', 'entropy'])
@pytest.mark.parametrize('channels', [3, 1])
def test_measures_are_those_of_pytorch(real_patches, patches, name, channels):
    ours, theirs = {'gradient_density': gradient_density, 'entropy': entropy}[name], getattr(complexity, name)
    for patch in real_patches + patches:
        patch = patch[:channels]
        expected = theirs(torch.from_numpy(patch)[None]).item()
        assert ours(patch) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_complexity_decides_as_adabm(real_patches, patches):
    theirs = ImageLayerPolicy(AdaptiveBody(1, ActivationOptions(bits=4)))
    with torch.no_grad():
        theirs.thresholds.copy_(torch.tensor([14.5, 30.25]))
    ours = build_policy(
        {'type': 'image_complexity', 'thresholds': theirs.thresholds.tolist(), 'codes': ['-1', '0', '1']},
        ('-1', '0', '1'), None,
    )  # fmt: skip
    found = []
    for patch in real_patches + patches:
        factor = theirs.image_bits(complexity.gradient_density(torch.from_numpy(patch)[None])).item()
        found.append(ours(patch, patch))
        assert found[-1] == str(round(factor))
    assert set(found) == {'-1', '0', '1'}


@pytest.mark.parametrize('thresholds', [[10.0], [10.0, 20.0], [10.0, 20.0, 30.0]])
def test_on_a_threshold_the_factor_nearer_to_the_middle(thresholds, monkeypatch):
    factors = list(range(len(thresholds) + 1))
    theirs = ImageLayerPolicy(AdaptiveBody(1, ActivationOptions(bits=4)), AdaBMPolicyOptions(image_factors=factors))
    with torch.no_grad():
        theirs.thresholds.copy_(torch.tensor(thresholds))
    codes = [str(factor) for factor in factors]
    ours = build_policy({'type': 'image_complexity', 'thresholds': thresholds, 'codes': codes}, codes, None)
    for value in (5.0, *thresholds, *(one + 0.5 for one in thresholds)):
        monkeypatch.setattr('dynq_basicsr.runtime.decide.gradient_density', lambda patch, value=value: value)
        assert ours(None, None) == str(round(theirs.image_bits(torch.tensor([value])).item()))


@pytest.mark.parametrize('entropy_bits', [[4, 5, 8], []])
@pytest.mark.parametrize('granularity_bits', [[4, 6, 8], [8]])
def test_controller_and_entropy_decide_as_granular_dq(real_patches, patches, entropy_bits, granularity_bits):
    theirs = GranularityEntropyPolicy(
        AdaptiveBody(1, ActivationOptions(bits=8), shallow_channels=3),
        GranularDQPolicyOptions(granularity_bits=granularity_bits, entropy_bits=entropy_bits),
    ).eval()
    if entropy_bits:
        theirs.set_distribution(torch.linspace(1.5, 3.4, 500))
    if theirs.controller is not None:
        torch.nn.init.normal_(theirs.controller.gate.weight, std=5, generator=torch.Generator().manual_seed(0))
    controller = theirs.controller and (lambda x: theirs.controller(torch.from_numpy(x)).detach().numpy())
    options = {
        'type': 'granularity_entropy', 'choices': granularity_bits, 'entropy_bits': entropy_bits,
        'thresholds': theirs.thresholds().tolist() if entropy_bits else [],
        'codes': {str(bits): f'{bits} bits' for bits in (4, 5, 6, 8)},
    }  # fmt: skip
    ours = build_policy(options, [f'{bits} bits' for bits in (4, 5, 6, 8)], controller)
    found = set()
    for patch in real_patches + patches:
        x = torch.from_numpy(patch)[None]
        expected = f'{theirs.decide(x, x).item():.0f} bits'
        assert ours(patch, patch) == expected
        found.add(expected)
    assert len(found) >= 2 or len(granularity_bits) == 1 and not entropy_bits


@pytest.mark.parametrize(
    'options, message',
    [
        ({'type': 'new'}, "policy 'new' is not known"),
        ({'type': 'fixed', 'code': 'x'}, "can choose 'x', which is no code of it"),
        ({'type': 'image_complexity', 'thresholds': [1], 'codes': ['a']}, 'one code more than thresholds'),
        ({'type': 'granularity_entropy', 'choices': [4, 8], 'entropy_bits': [], 'thresholds': [], 'codes': {}},
         'needs a controller'),
        ({'type': ['fixed']}, r"policy \['fixed'\] is not known"),
        ({'type': 'fixed', 'code': 'x' * 5000}, r"can choose 'x{10,60}\.\.\., which is no code of it"),
        ({'type': 'image_complexity', 'thresholds': [2, 1], 'codes': ['a'] * 3}, 'policy.thresholds must ascend'),
        ({'type': 'image_complexity', 'thresholds': [math.nan] * 2, 'codes': ['a'] * 3}, 'policy.thresholds'),
        ({'type': 'image_complexity', 'thresholds': ['1', 2], 'codes': ['a'] * 3}, 'policy.thresholds'),
        ({'type': 'image_complexity', 'thresholds': {'a': 1}, 'codes': ['a'] * 3}, 'must be a list of numbers'),
        ({'type': 'granularity_entropy', 'choices': [8], 'entropy_bits': [4, 8], 'thresholds': [math.inf],
          'codes': {'4': 'a', '8': 'a'}}, 'policy.thresholds'),
        ({'type': 'granularity_entropy', 'choices': [8], 'entropy_bits': [8, 4], 'thresholds': [1],
          'codes': {'4': 'a', '8': 'a'}}, 'policy.entropy_bits must ascend'),
    ],
)  # fmt: skip
def test_policies_that_do_not_fit(options, message):
    with pytest.raises(DynqError, match=message):
        build_policy(options, ['a'], None)


@pytest.mark.parametrize('logits', [[[1, math.nan]], [[0, 1, 2]], [[1]]])
def test_a_controller_that_gives_something_else(logits):
    options = {'type': 'granularity_entropy', 'choices': [4, 8], 'entropy_bits': [], 'thresholds': [],
               'codes': {'4': 'a', '8': 'a'}}  # fmt: skip
    policy = build_policy(options, ['a'], lambda x: np.float32(logits))
    with pytest.raises(DynqError, match='the controller gives'):
        policy(np.zeros((3, 4, 4), np.float32), np.zeros((3, 4, 4), np.float32))
