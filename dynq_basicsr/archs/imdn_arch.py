"""IMDN, the information multi-distillation network, with the layer names of its published weights; BasicSR has none."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SLOPE = 0.05  # of the leaky ReLUs


class Contrast(nn.Module):
    """Standard deviation plus mean of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, 1, 1)."""
        mean = x.mean(dim=(2, 3), keepdim=True)
        variance = (x - mean).pow(2).mean(dim=(2, 3), keepdim=True)
        flat = (variance == 0).to(x.dtype)  # where a root has no gradient
        return (variance + flat).sqrt() * (1 - flat) + mean


class ContrastAttention(nn.Module):
    """Contrast-aware channel attention: each channel is weighed by its standard deviation plus its mean.

    Args:
        channels: Of the features, a multiple of the reduction.
        reduction: How many times narrower its hidden layer is.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.contrast = Contrast()
        self.conv_du = nn.Sequential(
            nn.Conv2d(channels, channels // reduction, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels // reduction, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x * self.conv_du(self.contrast(x))


class DistillationModule(nn.Module):
    """Information multi-distillation: each step keeps a quarter of its channels and refines the rest.

    Args:
        num_feat: Channels, a multiple of 16.
    """

    def __init__(self, num_feat: int) -> None:
        super().__init__()
        self.kept = num_feat // 4
        refined = num_feat - self.kept
        self.c1 = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.c2 = nn.Conv2d(refined, num_feat, 3, padding=1)
        self.c3 = nn.Conv2d(refined, num_feat, 3, padding=1)
        self.c4 = nn.Conv2d(refined, self.kept, 3, padding=1)
        self.c5 = nn.Conv2d(num_feat, num_feat, 1)
        self.cca = ContrastAttention(num_feat)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        kept, rest = [], x
        for conv in (self.c1, self.c2, self.c3):
            part, rest = F.leaky_relu(conv(rest), _SLOPE).tensor_split([self.kept], dim=1)
            kept.append(part)
        kept.append(self.c4(rest))
        return self.c5(self.cca(torch.cat(kept, dim=1))) + x


class IMDN(nn.Module):
    """Lightweight image super-resolution with information multi-distillation network (Hui et al., ACM MM 2019).

    Args:
        num_in_ch: Channels of the input.
        num_out_ch: Channels of the output.
        num_feat: Channels of the features, a multiple of 16.
        num_modules: Number of distillation modules.
        upscale: 2, 3 or 4.
    """

    def __init__(
        self, num_in_ch: int = 3, num_out_ch: int = 3, num_feat: int = 64, num_modules: int = 6, upscale: int = 4
    ) -> None:
        super().__init__()
        if upscale not in (2, 3, 4):
            raise ValueError(f'IMDN: upscale must be 2, 3 or 4, not {upscale}.')
        if num_feat < 16 or num_feat % 16:
            raise ValueError(f'IMDN: num_feat must be a multiple of 16, not {num_feat}.')
        if num_modules < 1:
            raise ValueError(f'IMDN: num_modules must be at least 1, not {num_modules}.')
        self.fea_conv = nn.Conv2d(num_in_ch, num_feat, 3, padding=1)
        self.num_modules = num_modules
        for index in range(1, num_modules + 1):
            self.add_module(f'IMDB{index}', DistillationModule(num_feat))
        self.c = nn.Sequential(nn.Conv2d(num_modules * num_feat, num_feat, 1), nn.LeakyReLU(_SLOPE))
        self.LR_conv = nn.Conv2d(num_feat, num_feat, 3, padding=1)
        self.upsampler = nn.Sequential(
            nn.Conv2d(num_feat, num_out_ch * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to (N, C_out, scale * H, scale * W)."""
        first = self.fea_conv(x)
        features = [first]
        for index in range(1, self.num_modules + 1):
            features.append(self.get_submodule(f'IMDB{index}')(features[-1]))
        return self.upsampler(self.LR_conv(self.c(torch.cat(features[1:], dim=1))) + first)
