"""Tensors of colours for networks of three channels and of one."""

import torch
from basicsr.utils.color_util import rgb2ycbcr_pt

from dynq_basicsr.data.channels import as_channels, as_float, luma_of, with_channels


def test_luma_is_that_of_basicsr():
    x = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(luma_of(x), rgb2ycbcr_pt(x, y_only=True), rtol=0, atol=1e-6)
    assert torch.equal(luma_of(x.contiguous(memory_format=torch.channels_last)), luma_of(x))


def test_channels():
    colour, grey = torch.randint(0, 256, (3, 5, 4), dtype=torch.uint8), torch.rand(1, 5, 4)
    assert with_channels(colour, 3) is colour and with_channels(grey, 1) is grey
    assert torch.equal(with_channels(grey, 3), torch.cat([grey] * 3))
    assert torch.equal(with_channels(colour, 1), luma_of(colour[None] / 255)[0])
    batch = as_float(colour)[None]
    assert torch.equal(as_channels(batch, 1), luma_of(batch)) and as_channels(batch, 3) is batch
