"""The whole option file of one of our models, and the one parser of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationInfo, model_validator
from typing_extensions import Self

from dynq_basicsr.config.adabm import AdaBMOptions
from dynq_basicsr.config.datasets import DataSet, DataSetOptions, LRCalibrationOptions, PairedOptions
from dynq_basicsr.config.evaluation import ValOptions
from dynq_basicsr.config.granular import GranularOptions
from dynq_basicsr.config.logger import LoggerOptions
from dynq_basicsr.config.network import Network, QuantizedNetworkOptions
from dynq_basicsr.config.path import PathOptions
from dynq_basicsr.config.policies import GranularDQPolicyOptions
from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.section import Facts, Section, facts_of
from dynq_basicsr.config.training import TrainOptions
from dynq_basicsr.config.values import Count, Means, Name, Positive, Switch, Text, Whole, or_empty
from dynq_basicsr.errors import shown

# What BasicSR's parse_options and train_pipeline write into the options beside what stands in the file.
ADDED = ('dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path')
ADDED_TO_PATH = ('experiments_root', 'models', 'training_states', 'log', 'visualization', 'results_root', 'root')

# BasicSR's data set of images without ground truth, and ours in its place.
_SINGLE = ('SingleImageDataset', 'CheckedSingleImageDataset')

R = TypeVar('R', bound='RunOptions')


class RunOptions(Section):
    """An option file: what to train or to test, on what, and where results go."""

    name: Name = Field(None, description='Name of the run, and of its folder in experiments or results.')
    model_type: Text = Field(None, description="QuantizedModel, AdaBMModel, GranularDQModel, or a plug-in's.")
    scale: Positive = Field(None, description='How many times larger results are.')
    num_gpu: Annotated[Count | Literal['auto'], Means('a number of GPUs or auto')] = Field(
        'auto', description='GPUs of this process; 0: the CPU; auto: all that there are.'
    )
    manual_seed: Annotated[Whole, Field(ge=0, lt=2**31)] | None = Field(
        None, description='Of all random generators; null: drawn.'
    )
    plugins: tuple[Text, ...] = Field(
        (), description='Files (mine.py) and modules (my_package.module) whose registrations are imported first.'
    )
    find_unused_parameters: Switch = Field(False, description='Passed to DistributedDataParallel.')
    use_static_graph: Switch = Field(False, description="BasicSR's; has no effect here.")
    dist_params: dict[str, Any] | None = Field(None, description="BasicSR's, for --launcher slurm.")
    datasets: dict[Text, DataSet] = Field(
        {}, description='Data sets by phase: train, val (or val_1, val_2, ...), test (likewise).'
    )
    network_g: Network = Field(description='The network.')
    path: or_empty(PathOptions) = Field(PathOptions(), description='Files to begin with.')
    train: TrainOptions | None = Field(None, description='How to train; read by trainings alone.')
    val: or_empty(ValOptions) = Field(ValOptions(), description='How to evaluate; null: not at all.')
    logger: or_empty(LoggerOptions) = Field(LoggerOptions(), description='Log and checkpoints.')

    trains: ClassVar[str] = 'QuantizedModel'
    needs_ground_truth: ClassVar[bool] = True  # in its trainings

    @model_validator(mode='after')
    def _check_datasets(self, info: ValidationInfo) -> Self:
        is_train = facts_of(info).is_train
        for key, data in self.datasets.items():
            phase = key.partition('_')[0]
            phases = ('train', 'val') if is_train else ('val', 'test')
            if phase not in phases or (phase == 'train' and key != 'train'):
                where, known = 'training' if is_train else 'testing', ' or '.join(phases)
                raise wrong(f'datasets.{key}', f'no such phase in {where}; call it {known}, or val_2 and so on.')
            _check_needs(f'datasets.{key}', data, self.scale if data.scale is None else data.scale, phase == 'train')
            if phase == 'train' and self.needs_ground_truth and _lacks_ground_truth(data):
                raise wrong(
                    'datasets.train.type',
                    f'{data.type} has no ground truth, which a training of {self.trains} needs; '
                    'take PairedImageDataset.',
                )
        return self


def _lacks_ground_truth(data: DataSetOptions) -> bool:
    return isinstance(data, LRCalibrationOptions) or data.type.removesuffix('_basicsr') in _SINGLE


def _check_needs(section: str, data: DataSetOptions, scale: int | None, is_train: bool) -> None:
    """Check what only some phases need, and sizes against the scale."""
    needed = ['batch_size_per_gpu', 'num_worker_per_gpu'] if is_train else []
    if isinstance(data, PairedOptions):
        if scale is None:
            raise wrong('scale', 'missing; give how many times larger results are, as 4.')
        needed += ['gt_size', 'use_hflip', 'use_rot'] if is_train else []
        if is_train and data.gt_size is not None and data.gt_size % scale:
            raise wrong(
                f'{section}.gt_size',
                f'{data.gt_size} is no multiple of scale, {scale}; give {_near(data.gt_size, scale)}.',
            )
    for key in needed:
        if getattr(data, key) is None:
            raise wrong(f'{section}.{key}', 'missing; a training needs it.')
    if data.persistent_workers and not is_train:
        raise wrong(f'{section}.persistent_workers', 'only a training has worker processes; leave it out.')


def _check_quantized(run: RunOptions, network: Section) -> None:
    if not isinstance(network, QuantizedNetworkOptions):
        raise wrong('network_g.type', f'must be QuantizedSR in a training of {run.trains}, not {shown(network.type)}.')


def _near(size: int, scale: int) -> int:
    return max(round(size / scale), 1) * scale


class AdaBMRunOptions(RunOptions):
    """An option file of ``AdaBMModel``."""

    train: AdaBMOptions | None = Field(None, description='How to calibrate and fine-tune; read by trainings alone.')

    trains: ClassVar[str] = 'AdaBMModel'
    needs_ground_truth: ClassVar[bool] = False

    @model_validator(mode='after')
    def _check_training(self, info: ValidationInfo) -> Self:
        if not facts_of(info).is_train or self.train is None:
            return self
        network = self.network_g
        _check_quantized(self, network)
        if not network.quantization.enabled:
            raise wrong('network_g.quantization', 'AdaBMModel wants weights or activations below 32 bits.')
        has_weights = network.backbone is not None and network.backbone.type == 'Spandrel'
        if not has_weights and self.path.pretrain_network_g is None:
            raise wrong('path.pretrain_network_g', 'missing; AdaBMModel wants the trained float weights there.')
        data = self.datasets.get('train')
        if isinstance(data, LRCalibrationOptions) and (self.train.patch_size or 0) > data.patch_size:
            raise wrong(
                'train.patch_size',
                f'{self.train.patch_size} is more than datasets.train.patch_size, {data.patch_size}; lower it.',
            )
        if self.train.cache_teacher and not (isinstance(data, LRCalibrationOptions) and data.fixed_crops):
            raise wrong(
                'train.cache_teacher', 'an image needs one crop for that; set datasets.train.fixed_crops: true.'
            )
        return self


class GranularRunOptions(RunOptions):
    """An option file of ``GranularDQModel``."""

    train: GranularOptions | None = Field(None, description='How to train; read by trainings alone.')

    trains: ClassVar[str] = 'GranularDQModel'

    @model_validator(mode='after')
    def _check_training(self, info: ValidationInfo) -> Self:
        if facts_of(info).is_train:
            network = self.network_g
            _check_quantized(self, network)
            if isinstance(network.policy, GranularDQPolicyOptions):
                if conflict := network.policy.conflict(network.quantization.activation):
                    raise wrong('network_g.policy', conflict)
        return self


RUNS = {one.trains: one for one in (RunOptions, AdaBMRunOptions, GranularRunOptions)}


def parse(kind: type[R], opt: dict, facts: Facts) -> R:
    """Check the options of a run of ours and give them types.

    Whole numbers that are written as floats (``5e3``) become integers in ``opt``, too, since BasicSR reads that.

    Args:
        kind: What the model takes, one of ``RUNS``.
        opt: The option file, with or without what BasicSR adds to it.
        facts: About this machine and this run.

    Raises:
        DynqError: Names the first key that is unknown or holds an impossible value, and what it may be.
    """
    given = {key: value for key, value in opt.items() if key not in ADDED}
    if isinstance(given.get('path'), Mapping):
        given['path'] = {key: value for key, value in given['path'].items() if key not in ADDED_TO_PATH}
    if not facts.is_train:
        given.pop('train', None)
    options = kind.from_dict(given, facts=facts)
    _write_whole_numbers(opt, options)
    return options


def _write_whole_numbers(opt: dict, options: Section) -> None:
    for key in options.model_fields_set & opt.keys():
        opt[key] = _with_whole_numbers(opt[key], getattr(options, key))


def _with_whole_numbers(given: Any, typed: Any) -> Any:
    if isinstance(typed, Section) and isinstance(given, dict):
        _write_whole_numbers(given, typed)
    elif isinstance(typed, dict) and isinstance(given, dict):
        for key in typed.keys() & given.keys():
            given[key] = _with_whole_numbers(given[key], typed[key])
    elif isinstance(typed, tuple) and isinstance(given, list) and len(typed) == len(given):
        return [_with_whole_numbers(one, other) for one, other in zip(given, typed, strict=True)]
    elif isinstance(given, float) and type(typed) is int:
        return typed
    return given
