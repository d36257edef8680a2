"""LR images alone, for calibration and for fine-tuning without ground truth."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from basicsr.utils import get_root_logger
from torch.utils.data import Dataset

from dynq_basicsr.config.datasets import LRCalibrationOptions
from dynq_basicsr.config.section import Facts
from dynq_basicsr.data.channels import as_float, with_channels
from dynq_basicsr.data.crops import CropSequence, cut
from dynq_basicsr.data.decode import decode_rgb8
from dynq_basicsr.data.pictures import as_tensor, read_any, window
from dynq_basicsr.data.sources import counted, list_folder, listed_names, lmdb_keys, read_file, read_lmdb, some
from dynq_basicsr.errors import DynqError


class LRCalibrationDataset(Dataset):
    """Random crops of a fixed choice of LR images, from a folder, a list of files or one of BasicSR's LMDBs.

    Every chosen image is decoded once, in the constructor, so a bad file stops the run before its first iteration;
    the pixels stay in memory as uint8 (100 LR images of DIV2K: 50 MB; with ``fixed_crops`` the crops alone).

    Which images: ``num_images`` of the source, drawn by ``seed`` alone and kept in its order. Those are 8-bit RGB, or
    with ``convert`` pictures of any kind, as ``dynq quantize`` reads them.

    Which crops: by default a new one at each draw, from torch's global generator. It is the one source that BasicSR
    seeds in the main process (``manual_seed``) *and* that a loader's workers get anew in every epoch; BasicSR sets the
    workers' python and numpy generators to the same state at the start of each epoch, so crops drawn from those would
    repeat. With ``fixed_crops`` each image has one crop (and flip, and rotation), a function of ``seed`` and index.
    With ``num_crops`` the data set is the beginning of a ``CropSequence``, in the order in which BasicSR's sampler
    draws it in its first epoch: the crops that ``dynq quantize`` sees.

    Args:
        opt: See ``LRCalibrationOptions``.

    Raises:
        DynqError: For an unknown or unusable option, a missing or empty source, fewer images than asked, an image
            that cannot be decoded or is not of a kind that is taken, and one smaller than a crop.
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
            image = _decode(content, name, options)
            height, width = image.shape[-2:]
            if min(height, width) < self.patch_size:
                raise DynqError(f'{name}: the image is {width}x{height} pixels, smaller than a patch of '
                                f'{self.patch_size}; remove it or set {section}.patch_size: {min(height, width)}.')
            if self.fixed_crops:
                generator = np.random.RandomState([self.seed, index])  # a stream that NumPy keeps for good
                image = cut(image, self.patch_size, generator.randint, self.use_hflip, self.use_rot).clone()
            self._images.append(image)
        self._sequence = CropSequence(self._images, self.patch_size, self.seed, self.use_hflip, self.use_rot)
        self._places = None if options.num_crops is None else _places(options.num_crops)

    def __len__(self) -> int:
        return len(self._images) if self._places is None else len(self._places)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        """Return a crop.

        Returns:
            ``lq``: float32 in [0, 1], RGB ``(3, patch_size, patch_size)``, or luma ``(1, ...)`` with ``color: y``;
            ``lq_path``: its file or key.
        """
        if self._places is not None:
            place = int(self._places[index])
            return {'lq': self._sequence[place].contiguous(), 'lq_path': self.paths[self._sequence.index(place)]}
        image = self._images[index]
        if not self.fixed_crops:
            image = cut(image, self.patch_size, _torch_draw, self.use_hflip, self.use_rot)
        return {'lq': as_float(image).contiguous(), 'lq_path': self.paths[index]}


def _decode(content: bytes, name: str, options: LRCalibrationOptions) -> torch.Tensor:
    channels = 1 if options.color == 'y' else 3
    if options.convert:
        return with_channels(window(read_any(content, name), options.seed), channels)
    return with_channels(as_tensor(decode_rgb8(content, name, allow_grey=False)), channels)


def _places(count: int) -> torch.Tensor:
    """Index -> place in the sequence, so that BasicSR's sampler, which always shuffles, draws place after place."""
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(0))  # its first epoch
    return drawn.argsort()


def _choose(section: str, options: LRCalibrationOptions) -> tuple[list[str], Iterator[tuple[str, bytes]]]:
    """Return the paths (or keys) of the chosen images, and an iterator over (name for errors, encoded bytes)."""
    root, option = options.dataroot_lq, f'{section}.dataroot_lq'
    if options.io_backend.type == 'lmdb':
        keys = _sample(sorted(lmdb_keys(root, option)), root, options, section)
        named = (f'key {key!r} of {root}' for key in keys)
        return keys, zip(named, read_lmdb(root, keys), strict=True)
    if options.meta_info_file is not None:
        source, names = options.meta_info_file, listed_names(options.meta_info_file, f'{section}.meta_info_file')
        root = os.path.dirname(source) if root is None else root
    else:
        source, (names, others) = root, list_folder(root, option)
        if others:
            told = f'{option}: {counted(len(others), "file")} ignored, not an image: {some(others)}.'
            get_root_logger().warning(told)
    paths = _sample([os.path.join(root, name) for name in names], source, options, section)
    return paths, ((path, read_file(path)) for path in paths)


def _sample(found: list[str], source: str, options: LRCalibrationOptions, section: str) -> list[str]:
    if len(found) < options.num_images:
        raise DynqError(f'{section}: num_images is {options.num_images}, but {source!r} holds '
                        f'{counted(len(found), "image")}; '
                        + (f'add images or set num_images: {len(found)}.' if found else
                           'point dataroot_lq at a folder of images.'))
    chosen = np.random.RandomState(options.seed).permutation(len(found))[:options.num_images]
    return [found[index] for index in sorted(chosen)]


def _torch_draw(bound: int) -> int:
    return int(torch.randint(bound, ()))
