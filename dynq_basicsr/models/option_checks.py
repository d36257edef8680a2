"""What can be told to be wrong from an option file alone, before anything is built, moved or written."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

from basicsr.utils.registry import DATASET_REGISTRY, METRIC_REGISTRY, MODEL_REGISTRY, Registry

from dynq_basicsr.archs.arch_options import check_network
from dynq_basicsr.archs.community import import_spandrel
from dynq_basicsr.archs.spandrel_arch import check_spandrel
from dynq_basicsr.errors import DynqError, check_keys, check_number, nearest
from dynq_basicsr.quantization.options import QuantizationOptions

_TOP = (
    'name', 'model_type', 'scale', 'num_gpu', 'manual_seed', 'datasets', 'network_g', 'path', 'train', 'val', 'logger',
    'dist_params', 'find_unused_parameters', 'use_static_graph',
    # what BasicSR's parse_options and train_pipeline add
    'dist', 'rank', 'world_size', 'auto_resume', 'is_train', 'root_path',
)  # fmt: skip
_PATH = (
    'pretrain_network_g', 'param_key_g', 'strict_load_g', 'resume_state', 'ignore_resume_networks',
    'experiments_root', 'models', 'training_states', 'log', 'visualization', 'results_root', 'root',
)  # fmt: skip
_LOGGER = ('print_freq', 'save_checkpoint_freq', 'use_tb_logger', 'wandb')
_VAL = (
    'val_freq', 'save_img', 'suffix', 'metrics', 'pbar', 'bit_maps',
    'patch_size', 'patch_step', 'patch_batch', 'patch_merge',
)  # fmt: skip


# What a model passes to every metric.
_METRIC_DATA = ('img', 'img2', 'usage')


def check_types(opt: Mapping) -> None:
    """Check that model and data sets are registered.

    Args:
        opt: BasicSR's options, of any model.

    Raises:
        DynqError: Names the type and its nearest match.
    """
    _check_registered('model_type', opt['model_type'], MODEL_REGISTRY)
    for name, dataset in (opt.get('datasets') or {}).items():
        _check_registered(f'datasets.{name}.type', dataset.get('type'), DATASET_REGISTRY)


def check_sections(opt: Mapping) -> None:
    """Check the keys of the option file of one of our models, without looking into the network's.

    Raises:
        DynqError: Names the section, the key and its nearest match.
    """
    check_keys('option file', opt, _TOP)
    for section, known in (('path', _PATH), ('logger', _LOGGER), ('val', _VAL)):
        check_keys(section, opt.get(section), known)


def check_options(opt: Mapping) -> None:
    """Check the option file of one of our models: keys, numbers, metrics, and that what it names exists.

    The ``train`` section belongs to each model.

    Args:
        opt: BasicSR's options.

    Raises:
        DynqError: Names the section, the key and its nearest match.
    """
    check_sections(opt)
    if not isinstance(opt.get('network_g'), Mapping):
        raise DynqError('network_g: missing; give the architecture as {type: ..., its options}.')
    _check_network('network_g', opt['network_g'], opt.get('scale'))
    if opt['network_g']['type'] == 'QuantizedSR':
        _check_network('network_g.backbone', opt['network_g']['backbone'], opt.get('scale'))
        QuantizationOptions.from_dict(opt['network_g'].get('quantization'))
    for section, key in (('logger', 'print_freq'), ('logger', 'save_checkpoint_freq'), ('val', 'val_freq')):
        check_number(f'{section}.{key}', (opt.get(section) or {}).get(key, 1), 1, whole=True)
    metrics = (opt.get('val') or {}).get('metrics') or {}
    check_keys('val.metrics', metrics, metrics)
    for name, options in metrics.items():
        _check_metric(f'val.metrics.{name}', options)
    for name, dataset in (opt.get('datasets') or {}).items():
        _check_dataset(f'datasets.{name}', dataset)
    checkpoint = opt['path'].get('pretrain_network_g')
    if checkpoint is not None and not Path(checkpoint).is_file():
        raise DynqError(f'path.pretrain_network_g: no checkpoint at {str(checkpoint)!r}; correct the path.')


def _check_network(section: str, options: Mapping, scale: int | None) -> None:
    check_network(section, options)
    if options['type'] == 'HAT':
        import_spandrel()
    elif options['type'] == 'Spandrel':
        check_spandrel(section, options, scale)


def _check_registered(section: str, kind: object, registry: Registry) -> None:
    if not isinstance(kind, str) or kind not in registry:
        names = [name for name, _ in registry]
        raise DynqError(f'{section}: nothing is registered as {kind!r}.{nearest(kind, names) or f" Known: {names}."}')


def _check_metric(section: str, options: object) -> None:
    if not isinstance(options, Mapping):
        raise DynqError(f'{section}: expected a mapping with a type, got {options!r}.')
    _check_registered(f'{section}.type', options.get('type'), METRIC_REGISTRY)
    parameters = [
        one
        for one in inspect.signature(METRIC_REGISTRY.get(options['type'])).parameters.values()
        if one.name not in _METRIC_DATA and one.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    check_keys(section, options, ['type', 'better', *(one.name for one in parameters)])
    missing = [one.name for one in parameters if one.default is one.empty and one.name not in options]
    if missing:
        raise DynqError(f'{section}: {options["type"]} needs {", ".join(missing)}.')


def _check_dataset(section: str, dataset: Mapping) -> None:
    for key in ('dataroot_lq', 'dataroot_gt'):
        if dataset.get(key) is not None and not Path(dataset[key]).exists():
            raise DynqError(f'{section}.{key}: no folder or LMDB at {str(dataset[key])!r}; correct the path.')
    if dataset.get('phase') == 'train':
        for key, lowest in (('batch_size_per_gpu', 1), ('num_worker_per_gpu', 0)):
            check_number(f'{section}.{key}', dataset.get(key), lowest, whole=True)
