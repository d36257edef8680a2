"""SRResNet with batch normalization, the network that AdaBM and Granular-DQ call SRResNet."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ResidualBlockBN(nn.Module):
    """x + bn2(conv2(prelu(bn1(conv1(x)))))."""

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(num_feat, eps=1e-3)
        self.prelu = nn.PReLU(num_feat)
        self.conv2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(num_feat, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class SRResNetBN(nn.Module):
    """SRResNet (Ledig et al., CVPR 2017) with batch normalization, for x2 and x4.

    BasicSR's ``MSRResNet`` is another network (no batch normalization, other kernels and skip). Images come and go in
    [0, 1]; the published network's tanh output in [-1, 1] is mapped to that.

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output.
        num_feat: Channels of the features.
        num_block: Number of residual blocks.
        upscale: 2 or 4.
    """

    def __init__(
        self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_block: int = 16, upscale: int = 4
    ) -> None:
        super().__init__()
        if upscale not in (2, 4):
            raise ValueError(f'SRResNetBN: upscale must be 2 or 4, not {upscale}.')
        steps = upscale // 2
        self.head = nn.Conv2d(num_in_ch, num_feat, 9, padding=4)
        self.head_prelu = nn.PReLU(num_feat)
        self.body = nn.Sequential(*[ResidualBlockBN(num_feat) for _ in range(num_block)])
        self.body_conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.body_bn = nn.BatchNorm2d(num_feat, eps=1e-3)
        self.up = nn.ModuleList(nn.Conv2d(num_feat, 4 * num_feat, 3, padding=1) for _ in range(steps))
        self.up_prelu = nn.ModuleList(nn.PReLU(num_feat) for _ in range(steps))
        self.tail = nn.Conv2d(num_feat, num_out_ch, 9, padding=4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, C, scale * H, scale * W) in [0, 1]."""
        head = self.head_prelu(self.head(x))
        feat = head + self.body_bn(self.body_conv(self.body(head)))
        for up, prelu in zip(self.up, self.up_prelu, strict=True):
            feat = prelu(nn.functional.pixel_shuffle(up(feat), 2))
        return (torch.tanh(self.tail(feat)) + 1) / 2
