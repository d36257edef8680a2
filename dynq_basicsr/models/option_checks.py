"""What of an option file depends on what is registered: types, and the arguments that they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping

import torch
from basicsr.archs import build_network
from basicsr.utils.registry import (
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
)

from dynq_basicsr.archs.arch_options import check_network, image_format
from dynq_basicsr.archs.community import import_spandrel
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.spandrel_arch import check_spandrel
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.compat.registries import find, names
from dynq_basicsr.compat.training import make_optimizer, optimizers
from dynq_basicsr.config.network import QuantizedNetworkOptions
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.config.run import RunOptions
from dynq_basicsr.config.training import TrainOptions
from dynq_basicsr.errors import DynqError, check_keys, nearest, shown
from dynq_basicsr.policies.build import read_policy
from dynq_basicsr.quantization.quantizers import QUANTIZERS

_METRIC_DATA = ('img', 'img2', 'usage')  # what a model passes to every metric


def check_types(opt: Mapping) -> None:
    """Check that model and data sets are registered.

    Args:
        opt: BasicSR's options, of any model.

    Raises:
        DynqError: Names the type and its nearest match.
    """
    _registered('model_type', opt.get('model_type'), MODEL_REGISTRY)
    for name, dataset in (opt.get('datasets') or {}).items():
        _registered(f'datasets.{name}.type', dataset.get('type'), DATASET_REGISTRY)


def check_registered(opt: Mapping, options: RunOptions) -> None:
    """Check the types that a run of ours names, and what they are given.

    Args:
        opt: BasicSR's options.
        options: The same with their types.

    Raises:
        DynqError: Names the section, the key and its nearest match.
    """
    _check_network('network_g', opt['network_g'], options.scale)
    if isinstance(options.network_g, QuantizedNetworkOptions):
        _check_network('network_g.backbone', opt['network_g'].get('backbone'), options.scale)
        check_quantizer(options.network_g.quantization)
        read_policy(opt['network_g'].get('policy'))
    for name, metric in ((opt.get('val') or {}).get('metrics') or {}).items():
        function = _registered(f'val.metrics.{name}.type', metric['type'], METRIC_REGISTRY)
        _check_arguments(f'val.metrics.{name}', metric, function, ('better',), _METRIC_DATA)
    if isinstance(options.train, TrainOptions):
        _check_train(opt['train'])


def check_quantizer(options: QuantizationOptions) -> None:
    """Check that a quantizer is registered and knows the grid.

    Raises:
        DynqError: If it is not, or does not.
    """
    activation = options.activation
    QUANTIZERS[activation.quantizer]((activation.bits,), activation.grid, options.rounding_gradient)


def try_network(opt: Mapping) -> None:
    """Build the network of a run, load its checkpoint into it, and forget both; random generators stay as they are.

    Args:
        opt: BasicSR's options, checked.

    Raises:
        DynqError: If the network refuses its options or has another scale than the run, or the checkpoint does not fit.
    """
    network, path, scale = opt['network_g'], opt['path'], opt.get('scale')
    with torch.random.fork_rng(devices=[]):
        try:
            net = build_network(network)
        except (TypeError, ValueError, KeyError, AssertionError, RuntimeError, NotImplementedError) as error:
            raise DynqError(f'network_g: {network["type"]} refuses its options ({error}).') from error
        if path.get('pretrain_network_g'):
            load_weights(net, path['pretrain_network_g'], path.get('param_key_g', 'params'))
        own = net.scale if isinstance(net, QuantizedSR) else image_format(net, network).scale
    if scale is not None and own != scale:
        raise DynqError(f'scale: {scale}, but results of network_g are {own} times as large; make the two agree.')


def _check_train(train: Mapping) -> None:
    for key in ('pixel_opt', 'perceptual_opt'):
        if train.get(key):
            loss = _registered(f'train.{key}.type', train[key]['type'], LOSS_REGISTRY)
            _check_arguments(f'train.{key}', train[key], loss)
    options = dict(train['optim_g'])
    kind = options.pop('type')
    if kind not in optimizers():
        raise DynqError(f'train.optim_g.type: {shown(kind)} is none of torch.optim.{nearest(kind, optimizers())}')
    _check_arguments('train.optim_g', train['optim_g'], optimizers()[kind], given=('params',))
    make_optimizer(kind, [torch.nn.Parameter(torch.zeros(1))], **options)


def _check_network(section: str, options: Mapping, scale: int | None) -> None:
    check_network(section, options)
    kind = options['type'].removesuffix('_basicsr')
    if kind == 'HAT':
        import_spandrel()
    elif kind == 'Spandrel':
        check_spandrel(section, options, scale)


def _registered(section: str, kind: object, registry: Registry) -> Callable:
    found = find(registry, kind)
    if found is None:
        known = names(registry)
        hint = nearest(kind, known) or f' Known: {", ".join(known)}.'
        raise DynqError(
            f'{section}: nothing is registered as {shown(kind)}.{hint} Correct the name, or bring the package that '
            'registers it with `plugins: [my_package]` or --plugin my_package.'
        )
    return found


def _check_arguments(
    section: str, options: Mapping, function: Callable, others: Iterable[str] = (), given: Iterable[str] = ()
) -> None:
    """Check options against a signature.

    Args:
        section: Where they stand.
        options: ``{type: ..., further arguments}``.
        function: What gets them.
        others: Keys that are for somebody else.
        given: Parameters that the caller fills in.

    Raises:
        DynqError: Names a key that is unknown, or those that are missing.
    """
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name not in given]
    parameters = [one for one in parameters if one.kind is not one.VAR_KEYWORD]
    check_keys(section, options, ['type', *others, *(one.name for one in parameters)])
    missing = [one.name for one in parameters if one.default is one.empty and one.name not in options]
    if missing:
        raise DynqError(f'{section}: {options["type"]} needs {", ".join(missing)}.')
