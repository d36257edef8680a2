"""Several processes, one result: what is gathered, what is broadcast, and how they fail together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from basicsr.utils.dist_util import get_dist_info
from torch import distributed, nn
from torch.utils.data import DataLoader, Subset

from dynq_basicsr.errors import DynqError

T = TypeVar('T')
# What gloo, NCCL and the store say when the other side is gone.
_LOST = ('gloo', 'nccl', 'connection', 'timed out', 'timeout', 'broken pipe')


@contextmanager
def together() -> Iterator[None]:
    """Say in one sentence that another process is gone, where this one waits for it within the block.

    Raises:
        DynqError: In place of what the library of the processes throws then.
    """
    try:
        yield
    except RuntimeError as error:
        lost = isinstance(error, distributed.DistError) or any(sign in str(error).lower() for sign in _LOST)
        if get_dist_info()[1] == 1 or not lost:
            raise
        raise DynqError(
            'Another process of this run ended or does not answer, so this one cannot go on; see what that one said, '
            'then start all of them again, with --auto_resume to go on from the last saved state.'
        ) from error


def gather(value: T) -> list[T]:
    """The values of all ranks, in the order of ranks, on every rank; ``[value]`` where there is one process.

    Args:
        value: Whatever can be pickled.
    """
    world_size = get_dist_info()[1]
    if world_size == 1:
        return [value]
    values: list = [None] * world_size
    with together():
        distributed.all_gather_object(values, value)
    return values


@torch.no_grad()
def broadcast_module(module: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0; does nothing where there is one process.

    Args:
        module: The same architecture on all ranks, bare or wrapped; changed in place.
    """
    if get_dist_info()[1] == 1:
        return
    with together():
        for tensor in (*module.parameters(), *module.buffers()):
            sent = tensor.contiguous()
            distributed.broadcast(sent, 0)
            tensor.copy_(sent)


def share_of(loader: DataLoader) -> DataLoader:
    """This rank's share of a validation set: every world-size-th image.

    Args:
        loader: BasicSR's loader over the whole set, one image a batch.

    Returns:
        A loader over the share; the one given where there is one process.
    """
    rank, world_size = get_dist_info()
    if world_size == 1:
        return loader
    own = Subset(loader.dataset, range(rank, len(loader.dataset), world_size))
    return DataLoader(own, batch_size=1, collate_fn=loader.collate_fn, pin_memory=loader.pin_memory)


def gather_shares(work: Callable[[], list[T]]) -> list[T]:
    """Let every rank do its share, and put the shares together in the order of a single process.

    A rank that fails does so after the others have done their shares, and all of them fail with its error; otherwise
    they would wait for it in the next collective call.

    Args:
        work: Returns one item for each image of ``share_of``.

    Returns:
        The items of all images, on every rank.

    Raises:
        DynqError: What another rank raised.
    """
    try:
        own = work()
    except Exception as error:
        gather(str(error) if isinstance(error, DynqError) else f'{type(error).__name__}: {error}')
        raise
    shares = gather(own)
    for share in shares:
        if isinstance(share, str):
            raise DynqError(share)
    return [share[number] for number in range(max(map(len, shares))) for share in shares if number < len(share)]
