"""Random crops of images, flipped and turned, and a fixed sequence of such."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from dynq_basicsr.data.channels import as_float

_CROP, _ORDER = 1, 2  # streams of random numbers


def cut(image: Tensor, patch: int, draw: Callable[[int], int], hflip: bool = True, rot: bool = True) -> Tensor:
    """Cut a square out of an image.

    Args:
        image: (C, H, W), no side below ``patch``; it is not changed.
        patch: Side of the square, pixels.
        draw: ``draw(n)`` gives integers in [0, n).
        hflip: Mirror it at random.
        rot: Flip it vertically and transpose it at random, as BasicSR's ``augment``.

    Returns:
        (C, patch, patch).
    """
    top, left = (int(draw(side - patch + 1)) for side in image.shape[-2:])
    crop = image[:, top : top + patch, left : left + patch]
    if hflip and draw(2):
        crop = crop.flip(2)
    if rot:
        if draw(2):
            crop = crop.flip(1)
        if draw(2):
            crop = crop.transpose(1, 2)
    return crop


class CropSequence:
    """An endless sequence of crops: of every image one, in order, then epochs in random order.

    Each crop is a function of the seed and its place alone. So a run that is interrupted goes on with the crops that it
    would have seen, and whoever has the same images and the seed sees the same.

    Args:
        images: (C, H, W) each, float in [0, 1] or uint8.
        patch: Side of the crops, pixels.
        seed: Of everything.
        hflip: See ``cut``.
        rot: See ``cut``.
    """

    def __init__(
        self, images: Sequence[Tensor], patch: int, seed: int, hflip: bool = True, rot: bool = True
    ) -> None:
        self.images, self.patch, self.seed, self.hflip, self.rot = images, patch, seed, hflip, rot

    def index(self, place: int) -> int:
        """Of which image the crop at a place, counted from 0, is."""
        epoch, position = divmod(place, len(self.images))
        if epoch == 0:
            return position
        return int(np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.images))[position])

    def __getitem__(self, place: int) -> Tensor:
        """The crop at a place: (C, P, P), float32 in [0, 1]."""
        random = np.random.default_rng([self.seed, _CROP, place])
        return as_float(cut(self.images[self.index(place)], self.patch, random.integers, self.hflip, self.rot))

    def batch(self, number: int, size: int) -> Tensor:
        """A batch, counted from 1: (size, C, P, P), float32 in [0, 1]."""
        return torch.stack([self[place] for place in range((number - 1) * size, number * size)])
