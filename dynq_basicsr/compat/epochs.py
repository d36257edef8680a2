"""Repair of how many epochs BasicSR trains."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Mapping
from logging import Logger

from torch.utils.data import DataLoader

from dynq_basicsr.compat.registries import run_is_ours
from dynq_basicsr.compat.resume import read_state
from dynq_basicsr.errors import DynqError
from dynq_basicsr.training.interruption import spare_workers


def training_ends_before_total_iter() -> None:
    """Let a training of ours have ``total_iter`` iterations, whatever the size of its data set.

    Symptom: 3 images in batches of 2 and ``total_iter: 40`` end after 21 iterations, without a word; a data set that
        is smaller than one batch ends at once, with an untrained network.
    Cause: BasicSR counts the incomplete batch at an epoch's end, which its loader leaves out.
    Cure: count the epochs by the loader's batches, from where a resumed run stands; refuse a loader without any.
    """
    module = sys.modules['basicsr.train']
    if not hasattr(module.create_train_val_dataloader, '__wrapped__'):
        module.create_train_val_dataloader = _with_all_epochs(module.create_train_val_dataloader)


def batches_per_epoch(images: int, dataset: Mapping, opt: Mapping) -> int:
    """Batches that BasicSR's loader gives one process in an epoch.

    Args:
        images: Size of the data set.
        dataset: Its options: ``batch_size_per_gpu``, ``dataset_enlarge_ratio``.
        opt: BasicSR's options: ``world_size``, ``dist``, ``num_gpu``.
    """
    samples = math.ceil(images * dataset.get('dataset_enlarge_ratio', 1) / opt['world_size'])
    return samples // (dataset['batch_size_per_gpu'] * (1 if opt['dist'] else max(opt['num_gpu'], 1)))


def too_few_images(images: int, dataset: Mapping) -> DynqError:
    """The error for a training set that does not fill a batch.

    Args:
        images: Its size.
        dataset: Its options.
    """
    return DynqError(
        f'datasets.train: {images} images with dataset_enlarge_ratio {dataset.get("dataset_enlarge_ratio", 1)} do not '
        f'fill a batch of batch_size_per_gpu {dataset["batch_size_per_gpu"]} for each process; add images, raise '
        'dataset_enlarge_ratio or lower batch_size_per_gpu.'
    )


def _with_all_epochs(original: Callable) -> Callable:
    @functools.wraps(original)
    def create_train_val_dataloader(opt: dict, logger: Logger) -> tuple:
        loader, sampler, val_loaders, epochs, iterations = original(opt, logger)
        if run_is_ours(opt):
            spare_workers(loader)
            epochs = _epochs(opt, loader, iterations)
            logger.info(f'{len(loader)} whole batches an epoch; {iterations} iterations take {epochs} epochs.')
        return loader, sampler, val_loaders, epochs, iterations

    return create_train_val_dataloader


def _epochs(opt: Mapping, loader: DataLoader, iterations: int) -> int:
    """The number of the last epoch that may be needed; BasicSR's loop ends within it."""
    if len(loader) == 0:
        raise too_few_images(len(loader.dataset), opt['datasets']['train'])
    path = opt['path'].get('resume_state')
    done = read_state(path) if path else {'epoch': 0, 'iter': 0}
    return done['epoch'] + math.ceil(max(iterations - done['iter'], 0) / len(loader))
