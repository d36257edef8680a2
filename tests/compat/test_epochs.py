"""How many batches an epoch has; whole trainings are in tests/models/test_run_ends.py."""

import pytest
import torch
from basicsr.data import build_dataloader
from basicsr.data.data_sampler import EnlargedSampler
from torch.utils.data import DataLoader, TensorDataset

from dynq_basicsr.compat.epochs import batches_per_epoch


@pytest.mark.parametrize('images, batch, ratio, world', [
    (3, 2, 1, 1), (3, 2, 3, 1), (100, 16, 1, 1), (5, 2, 1, 2), (5, 3, 2.5, 2), (1, 2, 1, 1), (4, 2, 1, 3),
])  # fmt: skip
def test_it_is_what_the_loader_gives(images, batch, ratio, world):
    data = TensorDataset(torch.zeros(images))
    options = {'phase': 'train', 'batch_size_per_gpu': batch, 'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': ratio}
    sampler = EnlargedSampler(data, world, 0, ratio)
    loader = build_dataloader(data, options, num_gpu=0, dist=world > 1, sampler=sampler, seed=0)
    assert isinstance(loader, DataLoader)
    expected = batches_per_epoch(images, options, {'world_size': world, 'dist': world > 1, 'num_gpu': 0})
    assert len(loader) == len(list(loader)) == expected
