"""The network of an option file, and the bits that it uses for one image."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import yaml

from dynq_basicsr.compat.safe_yaml import OptionLoader
from dynq_basicsr.data.decode import decode_rgb8
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.usage import BitUsage
from dynq_basicsr.registration import register

if TYPE_CHECKING:
    from dynq_basicsr.models.quantized_model import QuantizedModel


def read_lr_image(path: str | Path) -> np.ndarray:
    """Read an 8-bit image.

    Args:
        path: A file; a grey image is expanded to three equal channels.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        DynqError: If the file is missing, damaged, or not 8-bit grey or RGB.
    """
    path = Path(path)
    if not path.is_file():
        raise DynqError(f'{path}: no such image.')
    return cv2.cvtColor(decode_rgb8(path.read_bytes(), str(path), allow_grey=True), cv2.COLOR_RGB2BGR)


def read_options(path: str | Path) -> dict:
    """Read an option file as plain data.

    Raises:
        DynqError: If it is missing, not YAML, or has no ``network_g`` or ``path``.
    """
    path = Path(path)
    if not path.is_file():
        raise DynqError(f'{path}: no such option file.')
    with open(path, encoding='utf-8') as file:
        options = yaml.load(file, OptionLoader)  # noqa: S506 - a subclass of the safe loader
    for key in ('network_g', 'path'):
        if not isinstance(options, dict) or not isinstance(options.get(key), dict):
            raise DynqError(f'{path}: the section {key!r} is missing; give an option file for tests.')
    return options


def register_plugin(plugins: Iterable[str] = ()) -> None:
    """Make BasicSR ready for commands that are none of its own, see ``register``; its logger tells warnings only."""
    register(plugins)
    import_module('basicsr.utils').get_root_logger(log_level=logging.WARNING)


def load_model(option_file: str | Path, checkpoint: str | Path | None = None, **val: object) -> QuantizedModel:
    """Build the network of an option file, ready to run on images.

    Args:
        option_file: Its ``network_g``, ``path``, ``val``, ``num_gpu`` and ``plugins`` are read.
        checkpoint: Instead of its ``path.pretrain_network_g``.
        **val: Options that take the place of those in ``val``.

    Raises:
        DynqError: If the option file or the checkpoint does not fit.
    """
    options = read_options(option_file)
    path = {'strict_load_g': True, 'results_root': None, **options['path']}  # no run, so no folder of it
    if checkpoint is not None:
        path['pretrain_network_g'] = str(checkpoint)
    if not path.get('pretrain_network_g'):
        raise DynqError(f'{option_file}: path.pretrain_network_g is empty; give the calibrated one as --checkpoint.')
    register_plugin(options.get('plugins') or ())
    gpus = options.get('num_gpu', 0)
    return import_module('dynq_basicsr.models.quantized_model').QuantizedModel(
        {
            'num_gpu': min(torch.cuda.device_count(), 1) if gpus == 'auto' else gpus,
            'dist': False,
            'is_train': False,
            'network_g': options['network_g'],
            'path': path,
            'val': {**(options.get('val') or {}), **val},
        }
    )


def as_batch(image: np.ndarray) -> torch.Tensor:
    """Turn an image (H, W, 3) uint8, BGR, into a batch (1, 3, H, W) in [0, 1], RGB."""
    pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).transpose(2, 0, 1).astype(np.float32) / 255.0
    return torch.from_numpy(np.ascontiguousarray(pixels))[None]


def bits_used(model: QuantizedModel, lq: np.ndarray) -> BitUsage:
    """Run a network on an image, patch by patch.

    Args:
        model: As ``load_model`` gives it.
        lq: (H, W, 3) uint8, BGR.

    Returns:
        The bits that it used.
    """
    model.feed_data({'lq': as_batch(lq)})
    model.test()
    return model.usage
