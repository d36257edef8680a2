"""What a policy measures of a training set's patches, as the entropies that Granular-DQ's thresholds lie among."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from basicsr.data import build_dataset
from basicsr.utils import get_root_logger
from torch import Tensor
from torch.utils.data import DataLoader, RandomSampler
from tqdm import tqdm

from dynq_basicsr.atomic import write_whole
from dynq_basicsr.compat.interrupted_epoch import random_states, randomness_kept, restore

BATCH = 16
# Options of a data set that do not change which patches can be drawn.
_LOADING = ('batch_size_per_gpu', 'num_worker_per_gpu', 'prefetch_mode', 'num_prefetch_queue', 'pin_memory',
            'persistent_workers', 'dataset_enlarge_ratio', 'use_shuffle', 'name')  # fmt: skip


def draw_patches(dataset: Mapping, count: int, seed: int = 0) -> Iterator[Tensor]:
    """Draw LR patches as training does, with augmentation, in batches of 16.

    A process of its own reads them, so an LMDB stays free to be opened here; where the data set's
    ``num_worker_per_gpu`` is 0 and it is no LMDB, this one does. No random state of this process changes.

    Args:
        dataset: BasicSR's options of the training set.
        count: How many, with replacement.
        seed: Of the choice and of the augmentation.

    Yields:
        (16, C, H, W) in [0, 1]; the last one may hold fewer.
    """
    images = build_dataset(dict(dataset))
    generator = torch.Generator().manual_seed(seed)
    sampler = RandomSampler(images, replacement=True, num_samples=count, generator=generator)
    apart = dataset.get('num_worker_per_gpu') != 0 or (dataset.get('io_backend') or {}).get('type') == 'lmdb'
    loader = DataLoader(images, BATCH, sampler=sampler, num_workers=int(apart), generator=generator)
    batches = iter(loader) if apart else _with_random_states_of_its_own(loader, seed)
    for batch in batches:
        yield batch['lq']


def _with_random_states_of_its_own(loader: DataLoader, seed: int) -> Iterator[dict]:
    """The batches of a loader without workers, whose augmentation draws from this process's generators."""
    with randomness_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        batches, states = iter(loader), random_states()
    while True:
        with randomness_kept():
            restore(states)
            batch = next(batches, None)
            states = random_states()
        if batch is None:
            return
        yield batch


def _content_mark(root: Path) -> list[int]:
    """What changes when a folder of images or an LMDB is made anew: number of files, newest change, size."""
    stats = [one.stat() for one in root.iterdir()] if root.is_dir() else []
    return [len(stats), max((one.st_mtime_ns for one in stats), default=0), sum(one.st_size for one in stats)]


def survey(
    dataset: Mapping, measure: Callable[[Tensor], Tensor | None], count: int, cache: Path, seed: int = 0
) -> Tensor | None:
    """Measure training patches; from the cache where the same was measured before.

    Args:
        dataset: BasicSR's options of the training set.
        measure: ``BitPolicy.measure`` of a policy.
        count: How many patches.
        cache: A folder.
        seed: See ``draw_patches``.

    Returns:
        (count,); None where the policy measures nothing.
    """
    if measure(torch.zeros(1, 3, 8, 8)) is None:
        return None
    what = measure.__qualname__
    asked = {key: value for key, value in dataset.items() if key not in _LOADING}
    content = [_content_mark(Path(value)) for key, value in sorted(asked.items()) if key.startswith('dataroot_')]
    mark = {'measure': what, 'dataset': asked, 'content': content, 'count': count, 'seed': seed}
    mark = json.dumps(mark, sort_keys=True, default=str)
    file = cache / f'{hashlib.sha256(mark.encode()).hexdigest()[:16]}.json'
    if file.is_file():
        found = json.loads(file.read_text(encoding='utf-8'))
        if found['of'] == mark:
            get_root_logger().info(f'What {what} says of {count} training patches is in {file}.')
            return torch.tensor(found['values'])
    with tqdm(total=count, desc='training patches', unit='patch', disable=None, leave=False) as bar:
        values = []
        for patches in draw_patches(dataset, count, seed):
            values.append(measure(patches))
            bar.update(len(patches))
    kept = [round(one, 5) for one in torch.cat(values).tolist()]
    values = torch.tensor(kept)  # as a later run reads them, which is to repeat this one
    cache.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps({'of': mark, 'values': kept}) + '\n')
    quartiles = ', '.join(f'{one:.3f}' for one in torch.quantile(values, torch.tensor([0.25, 0.5, 0.75])).tolist())
    get_root_logger().info(f'{what} of {count} training patches: quartiles {quartiles}, kept in {file}.')
    return values
