"""RDN, the residual dense network, with the parameter names of EDSR-PyTorch; BasicSR has none."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DenseLayer(nn.Module):
    """Appends relu(conv(x)) to the channels of x.

    Args:
        num_in_ch: Channels of x.
        num_grow_ch: Channels to append.
    """

    def __init__(self, num_in_ch: int, num_grow_ch: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(num_in_ch, num_grow_ch, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C + num_grow_ch, H, W)."""
        return torch.cat([x, self.conv(x)], dim=1)


class LocalFusionBlock(nn.Module):
    """Residual dense block: x + LFF(convs(x)), where LFF is the local feature fusion.

    Args:
        num_feat: Channels of x.
        num_grow_ch: Channels that each layer appends.
        num_layer: Number of dense layers.
    """

    def __init__(self, num_feat: int, num_grow_ch: int, num_layer: int) -> None:
        super().__init__()
        widths = [num_feat + index * num_grow_ch for index in range(num_layer + 1)]
        self.convs = nn.Sequential(*[DenseLayer(width, num_grow_ch) for width in widths[:-1]])
        self.LFF = nn.Conv2d(widths[-1], num_feat, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.LFF(self.convs(x))


class RDN(nn.Module):
    """Residual dense network (Zhang et al., CVPR 2018); the defaults are its configuration B.

    Images come and go in [0, 1]. Published weights work on 0..255 without a mean shift, so the network scales by
    ``img_range`` inside and takes them as they are.

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output.
        num_feat: Channels of the features (G0).
        num_block: Number of residual dense blocks (D).
        num_layer: Dense layers a block (C).
        num_grow_ch: Channels that each layer appends (G).
        upscale: 2, 3 or 4.
        img_range: Range that the weights work on.
    """

    def __init__(
        self,
        num_in_ch: int = 3,
        num_out_ch: int = 3,
        num_feat: int = 64,
        num_block: int = 16,
        num_layer: int = 8,
        num_grow_ch: int = 64,
        upscale: int = 4,
        img_range: float = 255.0,
    ) -> None:
        super().__init__()
        if upscale not in (2, 3, 4):
            raise ValueError(f'RDN: upscale must be 2, 3 or 4, not {upscale}.')
        self.img_range = img_range
        self.SFENet1 = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.SFENet2 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.RDBs = nn.ModuleList(LocalFusionBlock(num_feat, num_grow_ch, num_layer) for _ in range(num_block))
        self.GFF = nn.Sequential(
            nn.Conv2d(num_block * num_feat, num_feat, 1), nn.Conv2d(num_feat, num_feat, 3, padding=1)
        )
        steps, width = [], num_feat
        for factor in (2, 2) if upscale == 4 else (upscale,):
            steps += [nn.Conv2d(width, num_grow_ch * factor**2, 3, padding=1), nn.PixelShuffle(factor)]
            width = num_grow_ch
        self.UPNet = nn.Sequential(*steps, nn.Conv2d(width, num_out_ch, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, C, scale * H, scale * W)."""
        shallow = self.SFENet1(x * self.img_range)
        feat, blocks = self.SFENet2(shallow), []
        for block in self.RDBs:
            feat = block(feat)
            blocks.append(feat)
        return self.UPNet(self.GFF(torch.cat(blocks, dim=1)) + shallow) / self.img_range
