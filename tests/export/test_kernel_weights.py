"""Weights that do the same to pixels laid another way."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('onnx', reason='the extra deploy is not installed')

from dynq_basicsr.export.kernel_weights import join_pixels  # noqa: E402


@pytest.mark.parametrize('joined', [1, 2, 4])
@pytest.mark.parametrize('width', [1, 3, 5, 9])
def test_joined_pixels_are_the_same_convolution(width, joined):
    generator = torch.Generator().manual_seed(2)
    kernel = torch.randint(-8, 8, (3, width, 5, 2), generator=generator).double()
    x = torch.randint(0, 16, (1, 6, 12, 5), generator=generator).double()
    wanted = F.conv2d(x.permute(0, 3, 1, 2), kernel.permute(3, 2, 0, 1), padding=(1, width // 2)).permute(0, 2, 3, 1)
    whole = torch.from_numpy(join_pixels(kernel.numpy(), joined))
    taps = whole.shape[1]
    assert whole.shape == (3, taps, joined * 5, joined * 2) and taps % 2 == 1
    groups = x.reshape(1, 6, 12 // joined, joined * 5).permute(0, 3, 1, 2)
    found = F.conv2d(groups, whole.permute(3, 2, 0, 1), padding=(1, taps // 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(found.reshape(1, 6, 12, 2), wanted, rtol=0, atol=0)
