"""Going on within an epoch: where the training loop stood, and every random generator it draws from."""

from __future__ import annotations

import random
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from basicsr.data import prefetch_dataloader
from basicsr.utils.dist_util import get_dist_info


def resumed_run_sees_other_batches() -> None:
    """Let a resumed run see the batches and random numbers that the uninterrupted one would have seen.

    Symptom: a resumed run ends with other weights than one that was not interrupted.
    Cause: BasicSR saves neither the position in the epoch nor the state of any random generator; it begins the
        interrupted epoch again, with the generators as the seed left them.
    Cure: the prefetchers count the batches of the epoch and remember the generators at its start. The first epoch of a
        resumed run starts from those, loads the batches that were delivered before and drops them, then sets the
        generators to where they were when the state was saved. That costs the loading of the dropped batches, and
        serves loaders with worker processes, whose generators start anew in each epoch.

    Two settings stay as they are: workers that outlive an epoch (``persistent_workers``) carry their generators along
    with them, and ``prefetch_mode: cpu`` without workers draws from this process's generators in a thread.
    """
    for name, prefetcher in _PREFETCHERS.items():
        setattr(prefetch_dataloader, name, prefetcher)
        setattr(sys.modules['basicsr.train'], name, prefetcher)


class _Repeatable:
    """Mixed into a prefetcher: counts the batches of an epoch and can start in its middle."""

    def reset(self) -> None:
        """Start an epoch, or go on with an interrupted one."""
        resumed = _Loop.resumed
        _Loop.resumed, _Loop.prefetcher = None, weakref.ref(self)
        if resumed:
            restore(resumed['epoch_start'])
        self.epoch_start, self.delivered = random_states(), 0
        super().reset()
        if resumed:
            while self.delivered < resumed['delivered'] and self.next() is not None:
                pass
            restore(resumed['now'])

    def next(self) -> dict | None:
        """The next batch, or None at the end of the epoch."""
        batch = super().next()
        self.delivered += batch is not None
        return batch


_PREFETCHERS = {
    name: type(name, (_Repeatable, getattr(prefetch_dataloader, name)), {})
    for name in ('CPUPrefetcher', 'CUDAPrefetcher')
}


class _Loop:
    """The training loop of this process: what it draws batches from, and where its first epoch starts."""

    prefetcher: weakref.ref | None = None
    resumed: dict[str, object] | None = None


def position() -> dict[str, object] | None:
    """Where the training loop stands, as plain values and tensors; None where BasicSR's loop does not run.

    Returns:
        ``delivered``: batches of this epoch so far; ``epoch_start`` and ``now``: see ``random_states``. Until its loop
        begins, a resumed run stands where the earlier one was saved.
    """
    if _Loop.resumed:
        return _Loop.resumed
    prefetcher = _Loop.prefetcher and _Loop.prefetcher()
    if prefetcher is None:
        return None
    return {'delivered': prefetcher.delivered, 'epoch_start': prefetcher.epoch_start, 'now': random_states()}


def epoch() -> int:
    """Number of the epoch that the training loop is in, from 0; 0 where BasicSR's loop does not run."""
    prefetcher = _Loop.prefetcher and _Loop.prefetcher()
    return prefetcher.ori_loader.sampler.epoch if prefetcher else 0


def go_on_from(positions: list[dict[str, object]] | None) -> None:
    """Let the next epoch of this process start where the saved one was interrupted.

    Args:
        positions: What ``position`` gave, process by process; None: start at the beginning.
    """
    rank, world_size = get_dist_info()
    if positions and len(positions) != world_size:
        warnings.warn(
            f'the state was saved by {len(positions)} processes and is resumed by {world_size}, so the interrupted '
            'epoch begins again', stacklevel=2)
        positions = None
    _Loop.resumed, _Loop.prefetcher = positions[rank] if positions else None, None


def random_states() -> dict[str, object]:
    """States of Python's, NumPy's and torch's generators, and of the current CUDA device's where one is in use."""
    kind, keys, *rest = np.random.get_state()
    states = {'python': random.getstate(), 'numpy': (kind, keys.tolist(), *rest), 'torch': torch.get_rng_state()}
    if torch.cuda.is_initialized():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def restore(states: dict[str, object]) -> None:
    """Set the generators to what ``random_states`` gave; a state of CUDA counts only where CUDA is in use."""
    random.setstate(states['python'])
    np.random.set_state(states['numpy'])
    torch.set_rng_state(states['torch'])
    if 'cuda' in states and torch.cuda.is_initialized():
        torch.cuda.set_rng_state(states['cuda'])


@contextmanager
def randomness_kept() -> Iterator[None]:
    """Leave all generators as they were before this block; a loader's iterator, for one, draws from torch's."""
    before = random_states()
    try:
        yield
    finally:
        restore(before)
