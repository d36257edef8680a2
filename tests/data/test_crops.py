"""Crops, and their sequence."""

import numpy as np
import pytest
import torch

from dynq_basicsr.data.crops import CropSequence, cut


def test_every_image_once_then_epochs_in_random_order():
    images = [torch.full((3, 20, 20), index, dtype=torch.uint8) for index in range(5)]
    sequence = CropSequence(images, patch=16, seed=1)
    places = [sequence.index(place) for place in range(25)]
    assert places[:5] == [0, 1, 2, 3, 4]
    epochs = [places[start : start + 5] for start in range(0, 25, 5)]
    assert [sorted(epoch) for epoch in epochs] == 5 * [[0, 1, 2, 3, 4]]
    assert len(set(map(tuple, epochs))) > 2
    assert [round(float(sequence[place][0, 0, 0]) * 255) for place in range(25)] == places


def test_a_crop_is_a_function_of_seed_and_place():
    images = list(torch.rand(3, 3, 40, 30))
    first, again, other = (CropSequence(images, 16, seed) for seed in (1, 1, 2))
    for place in (5, 1, 9):
        assert torch.equal(first[place], again[place])
    assert not torch.equal(first[5], other[5])
    assert torch.equal(first.batch(3, 2), torch.stack([again[4], again[5]]))


@pytest.mark.parametrize(
    ('hflip', 'rot', 'reached'), [(True, True, 8), (True, False, 2), (False, True, 4), (False, False, 1)]
)
def test_flips_and_turns(hflip, rot, reached):
    image = torch.arange(16, dtype=torch.uint8).view(1, 4, 4)
    sequence = CropSequence([image], 4, 1, hflip, rot)
    assert len({sequence[place].numpy().tobytes() for place in range(80)}) == reached
    assert torch.equal(image.flatten(), torch.arange(16, dtype=torch.uint8))


def test_a_crop_reaches_every_corner():
    image = torch.arange(6, dtype=torch.uint8).view(1, 2, 3)
    random = np.random.default_rng(0)
    corners = {int(cut(image, 1, random.integers)) for _ in range(200)}
    assert corners == set(range(6))
