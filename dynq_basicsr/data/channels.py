"""Tensors of colours for networks of three channels and of one."""

from __future__ import annotations

import torch
from torch import Tensor

from dynq_basicsr.imaging.colours import BLACK, STUDIO_LUMA


def luma_of(images: Tensor) -> Tensor:
    """Y of BT.601, studio range, as BasicSR's ``rgb2ycbcr_pt``, but the same in every memory format.

    Args:
        images: RGB, (N, 3, H, W) in [0, 1].

    Returns:
        (N, 1, H, W) in [16 / 255, 235 / 255].
    """
    factors = zip(STUDIO_LUMA, images.split(1, dim=1), strict=True)
    red, green, blue = (factor * channel for factor, channel in factors)
    return (red + green + blue + BLACK) / 255


def as_channels(images: Tensor, channels: int) -> Tensor:
    """Luma of RGB images where one channel is wanted, as BasicSR's data sets give with ``color: y``; else as they are.

    Args:
        images: (N, C, H, W) in [0, 1].
        channels: How many are wanted.
    """
    return luma_of(images) if channels == 1 and images.shape[1] == 3 else images


def with_channels(image: Tensor, channels: int) -> Tensor:
    """A picture for a network of so many channels: see ``as_channels``; grey becomes three equal ones.

    Args:
        image: (C, H, W), RGB or grey, float in [0, 1] or uint8.
        channels: 3 or 1.
    """
    if len(image) == channels:
        return image
    if channels == 3:
        return image.expand(3, -1, -1)
    return as_channels(as_float(image)[None], channels)[0]


def as_float(image: Tensor) -> Tensor:
    """An image, float32 in [0, 1] or uint8 that counts 255 for 1, as float32."""
    return image.float() / 255 if image.dtype == torch.uint8 else image
