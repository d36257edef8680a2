"""LR images alone, for calibration and for fine-tuning without ground truth."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from basicsr.utils import get_root_logger
from torch.utils.data import Dataset

from dynq_basicsr.config.datasets import LRCalibrationOptions
from dynq_basicsr.config.section import Facts
from dynq_basicsr.data.decode import decode_rgb8
from dynq_basicsr.data.sources import counted, list_folder, lmdb_keys, read_file, read_lmdb, some
from dynq_basicsr.errors import DynqError


class LRCalibrationDataset(Dataset):
    """Random crops of a fixed choice of LR images, from a folder or from one of BasicSR's LMDBs.

    Every chosen image is decoded once, in the constructor, so a bad file stops the run before its first iteration;
    the pixels stay in memory as uint8 (100 LR images of DIV2K: 50 MB; with ``fixed_crops`` the crops alone).

    Which images: ``num_images`` of the sorted list, drawn by ``seed`` alone and kept in sorted order. Which crops: by
    default a new one at each draw, from torch's global generator. It is the one source that BasicSR seeds in the main
    process (``manual_seed``) *and* that a loader's workers get anew in every epoch; BasicSR sets the workers' python
    and numpy generators to the same state at the start of each epoch, so crops drawn from those would repeat. With
    ``fixed_crops`` each image has one crop (and flip, and rotation), a function of ``seed`` and index.

    Args:
        opt: See ``LRCalibrationOptions``.

    Raises:
        DynqError: For an unknown or unusable option, a missing or empty source, fewer images than asked, an image
            that is not 8-bit RGB or cannot be decoded, and one smaller than a crop.
    """

    def __init__(self, opt: Mapping) -> None:
        super().__init__()
        section = f'datasets.{opt.get("phase", "train")}'
        options = LRCalibrationOptions.from_dict(opt, section, Facts(cuda=torch.cuda.is_available()))
        self.opt, self.patch_size = opt, options.patch_size
        self.use_hflip, self.use_rot, self.fixed_crops = options.use_hflip, options.use_rot, options.fixed_crops
        self.seed = options.seed

        self.paths, contents = _choose(section, options)
        self._images = []
        for index, (name, content) in enumerate(contents):
            image = decode_rgb8(content, name, allow_grey=False)
            height, width = image.shape[:2]
            if min(height, width) < self.patch_size:
                raise DynqError(f'{name}: the image is {width}x{height} pixels, smaller than a patch of '
                                f'{self.patch_size}; remove it or set {section}.patch_size: {min(height, width)}.')
            if self.fixed_crops:
                generator = np.random.RandomState([self.seed, index])  # a stream that NumPy keeps for good
                image = self._cut(image, generator.randint).copy()
            self._images.append(image)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        """Return ``lq``, a float32 RGB crop ``(3, patch_size, patch_size)`` in [0, 1], and ``lq_path``, file or key."""
        image = self._images[index]
        if not self.fixed_crops:
            image = self._cut(image, _torch_draw)
        # NumPy's division, not torch's, so that the numbers are BasicSR's on every device.
        pixels = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32) / 255.
        return {'lq': torch.from_numpy(pixels), 'lq_path': self.paths[index]}

    def _cut(self, image: np.ndarray, draw: Callable[[int], int]) -> np.ndarray:
        """Return a view ``(P, P, 3)``; ``draw(n)`` gives integers in [0, n). The cached image is never written to."""
        height, width = image.shape[:2]
        top = int(draw(height - self.patch_size + 1))
        left = int(draw(width - self.patch_size + 1))
        crop = image[top:top + self.patch_size, left:left + self.patch_size]
        if self.use_hflip and draw(2):
            crop = crop[:, ::-1]
        if self.use_rot:  # with a vertical flip and a transposition, as BasicSR's augment
            if draw(2):
                crop = crop[::-1]
            if draw(2):
                crop = crop.transpose(1, 0, 2)
        return crop


def _choose(section: str, options: LRCalibrationOptions) -> tuple[list[str], Iterator[tuple[str, bytes]]]:
    """Return the paths (or keys) of the chosen images, and an iterator over (name for errors, encoded bytes)."""
    root, option = options.dataroot_lq, f'{section}.dataroot_lq'
    if options.io_backend.type == 'lmdb':
        keys = _sample(sorted(lmdb_keys(root, option)), options, section)
        named = (f'key {key!r} of {root}' for key in keys)
        return keys, zip(named, read_lmdb(root, keys), strict=True)
    names, others = list_folder(root, option)
    if others:
        get_root_logger().warning(f'{option}: {counted(len(others), "file")} ignored, not an image: {some(others)}.')
    paths = _sample([os.path.join(root, name) for name in names], options, section)
    return paths, ((path, read_file(path)) for path in paths)


def _sample(found: list[str], options: LRCalibrationOptions, section: str) -> list[str]:
    if len(found) < options.num_images:
        raise DynqError(f'{section}: num_images is {options.num_images}, but {options.dataroot_lq!r} holds '
                        f'{counted(len(found), "image")}; '
                        + (f'add images or set num_images: {len(found)}.' if found else
                           'point dataroot_lq at a folder of images.'))
    chosen = np.random.RandomState(options.seed).permutation(len(found))[:options.num_images]
    return [found[index] for index in sorted(chosen)]


def _torch_draw(bound: int) -> int:
    return int(torch.randint(bound, ()))
