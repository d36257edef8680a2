"""IDN, the information distillation network, with the layer names of its published weights; BasicSR has none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynq_basicsr.data.channels import luma_of
from dynq_basicsr.imaging.colours import RGB_PER_LUMA

# The cubic kernel reaches two pixels to either side.
_REACH = 2


def upsample_bicubic(x: Tensor, scale: int) -> Tensor:
    """Enlarge as MATLAB's ``imresize`` does: cubic kernel with a = -0.5, borders mirrored.

    ``F.interpolate`` alone has a = -0.75, or with ``antialias`` MATLAB's kernel but other borders.

    Args:
        x: (N, C, H, W), of any range and size.
        scale: The factor, a whole number.

    Returns:
        (N, C, scale * H, scale * W), not clamped.
    """
    for dim in (2, 3):
        size = x.shape[dim]
        index = torch.arange(-_REACH, size + _REACH, device=x.device) % (2 * size)
        x = x.index_select(dim, torch.minimum(index, 2 * size - 1 - index))
    margin = _REACH * scale
    enlarged = F.interpolate(x, scale_factor=scale, mode='bicubic', antialias=True)
    return enlarged[..., margin:-margin, margin:-margin]


class IDN(nn.Module):
    """Information distillation network (Hui et al., CVPR 2018), four blocks, slices of a quarter.

    It adds what a transposed convolution makes of the features to the bicubic enlargement. Images come and go in
    [0, 1], on which the published weights work; these know luma only, that of ``bgr2ycbcr`` (BT.601, studio range).

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output; those of the input, since the enlarged input is added.
        num_feat: Channels of the features, a multiple of 16.
        upscale: 2, 3 or 4.
        luma: Take RGB images through a network of one channel: Y is super-resolved, chroma enlarged bicubically.
    """

    def __init__(
        self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, upscale: int = 4, luma: bool = False
    ) -> None:
        super().__init__()
        if upscale not in (2, 3, 4):
            raise ValueError(f'IDN: upscale must be 2, 3 or 4, not {upscale}.')
        if num_in_ch != num_out_ch:
            raise ValueError(f'IDN: num_in_ch and num_out_ch must be equal, not {num_in_ch} and {num_out_ch}.')
        if luma and num_in_ch != 3:
            raise ValueError(f'IDN: luma is for RGB images, so num_in_ch must be 3, not {num_in_ch}.')
        if num_feat < 16 or num_feat % 16:
            raise ValueError(f'IDN: num_feat must be a multiple of 16, not {num_feat}.')
        self.upscale, self.luma = upscale, luma
        self.slice = num_feat // 4
        width = 1 if luma else num_in_ch
        self.conv1 = nn.Conv2d(width, num_feat, 3, padding=1)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        for block in range(3, 7):
            for index, (inputs, outputs, groups) in enumerate(_enhancement_unit(num_feat, self.slice), start=1):
                self.add_module(f'conv{block}_{index}', nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups))
            self.add_module(f'down{block - 2}', nn.Conv2d(num_feat + self.slice, num_feat, 1))
        self.upsample = nn.ConvTranspose2d(num_feat, width, 17, stride=upscale, padding=8)
        self.act = nn.LeakyReLU(0.05)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, C, scale * H, scale * W)."""
        if self.luma:
            # Conversion and enlargement are linear, and a step in Y alone is one of equal size in R, G and B: enlarging
            # Y, Cb and Cr and converting back is the same as enlarging R, G and B.
            detail = self._detail(luma_of(x)) * RGB_PER_LUMA
        else:
            detail = self._detail(x)
        return upsample_bicubic(x, self.upscale) + detail

    def _detail(self, x: Tensor) -> Tensor:
        """What is added to the enlarged input.

        The transposed convolution makes scale * (H - 1) + 1 rows, which the published code adds from row scale - 1 on;
        columns likewise. Above and to the left, the bicubic enlargement stays as it is.
        """
        feat = self.act(self.conv2(self.act(self.conv1(x))))
        for block in range(3, 7):
            feat = self._distil(feat, block)
        margin = self.upscale - 1
        return F.pad(self.upsample(feat), (margin, 0, margin, 0))

    def _distil(self, x: Tensor, block: int) -> Tensor:
        """One information distillation block: map (N, C, H, W) to the same shape."""
        kept, rest = self._run(x, block, 1, 2, 3).tensor_split([self.slice], dim=1)
        enhanced = torch.cat([x, kept], dim=1) + self._run(rest, block, 4, 5, 6)
        return self.act(self.get_submodule(f'down{block - 2}')(enhanced))

    def _run(self, x: Tensor, block: int, *indices: int) -> Tensor:
        for index in indices:
            x = self.act(self.get_submodule(f'conv{block}_{index}')(x))
        return x


def _enhancement_unit(num_feat: int, step: int) -> list[tuple[int, int, int]]:
    """Inputs, outputs and groups of the six convolutions of a block."""
    return [
        (num_feat, num_feat - step, 1),
        (num_feat - step, num_feat - 2 * step, 4),
        (num_feat - 2 * step, num_feat, 1),
        (num_feat - step, num_feat, 1),
        (num_feat, num_feat - step, 4),
        (num_feat - step, num_feat + step, 1),
    ]
