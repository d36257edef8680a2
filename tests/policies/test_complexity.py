"""Gradient density against plain loops and against SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data

from dynq_basicsr.policies.complexity import gradient_density

SOBEL = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8


def grey(image):
    return 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]


def by_loops(image):
    """image: (3, H, W) in [0, 1], float64."""
    padded = np.pad(grey(image), 1, mode='edge')
    height, width = image.shape[1:]
    total = 0.0
    for row in range(height):
        for column in range(width):
            window = padded[row : row + 3, column : column + 3]
            total += abs((window * SOBEL).sum()) + abs((window * SOBEL.T).sum())
    return 1000 * total / (2 * height * width)


def photographs():
    crops = [getattr(data, name)()[100:164, 60:140] for name in ('astronaut', 'chelsea', 'coffee')]
    return np.stack(crops).transpose(0, 3, 1, 2).astype(np.float64) / 255


def test_equals_plain_loops():
    images = np.random.default_rng(0).random((2, 3, 7, 5))
    found = gradient_density(torch.from_numpy(images))
    assert found.tolist() == pytest.approx([by_loops(image) for image in images], rel=1e-12)


def test_equals_scipy_on_photographs():
    images = photographs()
    expected = [
        1000 * np.mean([np.abs(ndimage.correlate(grey(image), kernel, mode='nearest')) for kernel in (SOBEL, SOBEL.T)])
        for image in images
    ]
    found = gradient_density(torch.from_numpy(images).float())
    assert found.shape == (3,) and found.tolist() == pytest.approx(expected, rel=1e-5)
    assert all(1 < value < 100 for value in expected)


def test_samples_do_not_see_each_other():
    images = torch.from_numpy(photographs()).float()
    alone = torch.cat([gradient_density(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(gradient_density(images), alone, rtol=1e-6, atol=0)


def test_flat_images_have_none_and_turning_changes_nothing():
    assert gradient_density(torch.full((2, 3, 6, 6), 0.7)).tolist() == pytest.approx([0, 0], abs=1e-3)
    image = torch.from_numpy(photographs()[:1])
    for turned in (image.flip(-1), image.flip(-2), image.transpose(-1, -2)):
        torch.testing.assert_close(gradient_density(turned), gradient_density(image))


def test_a_ramp_has_its_slope():
    ramp = torch.arange(50, dtype=torch.float64).mul(0.01).expand(1, 1, 4, 50)
    # slope 0.01 inside, half of it at both borders, nothing in the other direction
    assert gradient_density(ramp).item() == pytest.approx(1000 * 0.01 * (48 + 2 * 0.5) / 50 / 2)


@pytest.mark.parametrize('channels', [1, 4])
def test_other_channel_counts_use_the_mean(channels):
    image = torch.rand(2, channels, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean = image.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    torch.testing.assert_close(gradient_density(image), gradient_density(mean))


def test_channels_last_is_the_same():
    image = torch.from_numpy(photographs())
    torch.testing.assert_close(
        gradient_density(image.contiguous(memory_format=torch.channels_last)), gradient_density(image)
    )
