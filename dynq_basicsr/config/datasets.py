"""``datasets``: where images come from, and how a training loads them."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationInfo, model_validator
from typing_extensions import Self

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.section import AsRegistered, Section, by_type, facts_of
from dynq_basicsr.config.values import (
    MOST_PATCHES,
    BatchSize,
    Name,
    Number,
    Positive,
    Switch,
    Text,
    Whole,
    Workers,
    or_empty,
)
from dynq_basicsr.errors import PATH, shown

_ROOTS = ('dataroot_lq', 'dataroot_gt')


class BackendOptions(Section):
    """How files are read."""

    section: ClassVar[str] = 'datasets.io_backend'

    type: Literal['disk', 'lmdb'] = Field('disk', description="Folders of image files, or BasicSR's LMDBs.")


class DataSetOptions(Section):
    """What every data set has: a name, and BasicSR's options of the loader."""

    section: ClassVar[str] = 'datasets'

    name: Name = Field(description='What the set is called in logs, records and folders of results.')
    phase: Literal['train', 'val', 'test'] = Field('train', exclude=True, description='Entered by BasicSR.')
    scale: Positive = Field(None, description='Of this set; entered by BasicSR from the top of the file.')
    batch_size_per_gpu: BatchSize = Field(None, description='Images of a training batch, per process.')
    num_worker_per_gpu: Workers = Field(None, description='Processes that load training images, per process.')
    dataset_enlarge_ratio: Annotated[Whole, Field(ge=1, le=10**6)] = Field(
        1, description='How many times an epoch goes through the set.'
    )
    use_shuffle: Switch = Field(True, description="BasicSR's; has no effect there either.")
    prefetch_mode: Literal['cpu', 'cuda'] | None = Field(
        None, description='Load ahead in a thread, or onto the GPU (wants pin_memory: true); null: neither.'
    )
    num_prefetch_queue: BatchSize = Field(1, description='Batches that prefetch_mode: cpu keeps ready.')
    pin_memory: Switch = Field(False, description='Whether batches lie in pinned memory.')
    persistent_workers: Switch = Field(False, description='Whether worker processes outlive an epoch.')

    @model_validator(mode='after')
    def _check_loader(self, info: ValidationInfo) -> Self:
        if self.prefetch_mode == 'cuda':
            if not facts_of(info).cuda:
                raise wrong('prefetch_mode', 'cuda, but torch sees no CUDA device; write cpu or ~.')
            if not self.pin_memory:
                raise wrong('pin_memory', 'must be true with prefetch_mode: cuda.')
        if self.persistent_workers and not self.num_worker_per_gpu:
            raise wrong('persistent_workers', 'there are no worker processes here; leave it out.')
        return self


class SourceOptions(DataSetOptions):
    """A data set of image files."""

    io_backend: or_empty(BackendOptions) = Field(BackendOptions(), description='How its files are read.')
    dataroot_lq: Text = Field(description='Folder or LMDB of the LR images.')
    meta_info_file: Text | None = Field(
        None, description='File that lists the images to take (of pairs the HR ones), one a line; null: all of them.'
    )

    @model_validator(mode='after')
    def _check_sources(self, info: ValidationInfo) -> Self:
        listed = self.meta_info_file
        if listed is not None and facts_of(info).files and not os.path.isfile(listed):
            raise wrong('meta_info_file', f'no file at {shown(listed, PATH)}; correct it, or leave it out.')
        for key in (key for key in _ROOTS if getattr(self, key, None) is not None):
            root, kind = os.path.expanduser(getattr(self, key)), self.io_backend.type
            name, is_lmdb = shown(root, PATH), root.rstrip('/\\').endswith('.lmdb')
            if kind == 'disk' and (is_lmdb or os.path.isfile(os.path.join(root, 'data.mdb'))):
                raise wrong(key, f'{name} is an LMDB; set io_backend: {{type: lmdb}}.')
            if kind == 'lmdb' and not is_lmdb:
                raise wrong(key, f'{name} does not end in .lmdb; name an LMDB, or set io_backend: {{type: disk}}.')
            if facts_of(info).files and not os.path.exists(root):
                raise wrong(key, f'no folder or LMDB at {name}; correct the path.')
        return self


class LRCalibrationOptions(SourceOptions):
    """LR images alone, for calibration and for fine-tuning without ground truth."""

    type: Annotated[Literal['LRCalibrationDataset'], AsRegistered] = Field(
        'LRCalibrationDataset', description='Random crops of a fixed choice of LR images.'
    )
    dataroot_lq: Text | None = Field(
        None, description='Folder or LMDB of the LR images; null: that of meta_info_file, which may name any files.'
    )
    num_images: Positive = Field(100, description='How many images of the source to take.')
    convert: Switch = Field(
        False, description='Take pictures of any kind (of large ones a window), rather than 8-bit RGB images alone.'
    )
    color: Literal['y'] | None = Field(None, description='y: luma alone; null: RGB.')
    patch_size: Positive = Field(96, description='Side of a crop, LR pixels.')
    use_hflip: Switch = Field(False, description='Whether crops are mirrored at random.')
    use_rot: Switch = Field(False, description='Whether crops are flipped and transposed at random.')
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = Field(
        0, description='Of the choice of images, windows, fixed crops and sequences of crops.'
    )
    fixed_crops: Switch = Field(False, description='Whether each image has one crop, rather than one a draw.')
    num_crops: Annotated[Positive, Field(le=MOST_PATCHES)] | None = Field(
        None, description='Length of a fixed sequence of crops, which an epoch sees in order; null: drawn anew.'
    )

    @model_validator(mode='after')
    def _check_images(self, info: ValidationInfo) -> Self:
        if self.dataroot_lq is None and self.meta_info_file is None:
            raise wrong('dataroot_lq', 'missing; name a folder or LMDB, or list files in meta_info_file.')
        if self.io_backend.type == 'lmdb':
            for key in ('meta_info_file', 'convert'):
                if getattr(self, key):
                    raise wrong(key, 'is for files, not for LMDBs; leave it out, or set io_backend: {type: disk}.')
        if self.num_crops is not None and self.fixed_crops:
            raise wrong('num_crops', 'fixed_crops gives each image one crop; leave one of them out.')
        return self


class PairedOptions(SourceOptions):
    """Pairs of LR images and ground truth."""

    type: Annotated[Literal['PairedImageDataset', 'CheckedPairedImageDataset'], AsRegistered] = Field(
        'PairedImageDataset', description="BasicSR's pairs of images; ours, which runs use, refuse damaged ones."
    )
    dataroot_gt: Text = Field(description='Folder or LMDB of the HR images.')
    filename_tmpl: Text = Field('{}', description='Name of an LR image for the name {} of its HR image.')
    gt_size: Positive = Field(None, description='Side of a training patch, HR pixels; a multiple of scale.')
    use_hflip: Switch = Field(None, description='Whether training patches are mirrored at random.')
    use_rot: Switch = Field(None, description='Whether training patches are flipped and transposed at random.')
    color: Literal['y'] | None = Field(None, description='y: luma alone; null: RGB.')
    mean: tuple[Number, ...] | None = Field(None, description='Subtracted from each channel; null: nothing.')
    std: tuple[Number, ...] | None = Field(None, description='Each channel is divided by it; null: by nothing.')

    @model_validator(mode='after')
    def _check_pairs(self, info: ValidationInfo) -> Self:
        if (self.mean is None) != (self.std is None):
            raise wrong('std' if self.std is None else 'mean', 'mean and std go together; give both or neither.')
        try:
            fits = self.filename_tmpl.format('a') != self.filename_tmpl.format('b')
        except (AttributeError, IndexError, KeyError, ValueError):
            fits = False
        if not fits:
            raise wrong(
                'filename_tmpl', f'{shown(self.filename_tmpl)} must hold {{}} once, for the name of the HR image.'
            )
        return self


class OtherDataSetOptions(DataSetOptions):
    """Another registered data set; its class says which further options it takes."""

    model_config = ConfigDict(extra='allow')

    type: Text = Field(description='Name that the data set is registered under.')


DataSet: Any = by_type(LRCalibrationOptions, PairedOptions, other=OtherDataSetOptions)
