"""What an iteration of training tells: fetched from the device when somebody looks, not in each iteration."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, distributed

from dynq_basicsr.errors import DynqError


class TrainingFigures:
    """Losses and other figures of the newest iteration, and the first iteration whose losses were not finite.

    A GPU that is asked for a number has to finish its work first, so an iteration only lays its figures down; ``read``
    is called where they are printed, and before anything is saved or validated.

    Args:
        advice: How to get on after a loss that is not finite, for the error.
    """

    def __init__(self, advice: str) -> None:
        self._advice = advice
        self._names: tuple[str, ...] = ()
        self._values: Tensor | None = None
        self._broken: Tensor | None = None  # (names,), first iteration in which each was not finite, 0: none
        self._known: dict[str, float] = {}

    @torch.no_grad()
    def note(self, iteration: int, losses: Mapping[str, Tensor], others: Mapping[str, Tensor] | None = None) -> None:
        """Take the figures of an iteration.

        Args:
            iteration: Its number, from 1.
            losses: Scalars, which must be finite.
            others: Scalars that are told beside them.
        """
        figures = {**losses, **(others or {})}
        values = torch.stack([value.detach().float().mean() for value in figures.values()])
        if self._names != tuple(figures):
            self.read()
            self._names, self._broken = tuple(figures), torch.zeros_like(values)
        new = ~values.isfinite() & (self._broken == 0)
        new[len(losses) :] = False
        self._broken = torch.where(new, float(iteration), self._broken)
        self._values = values

    def read(self) -> dict[str, float]:
        """The newest figures, mean over processes; all of them must ask for them together.

        Raises:
            DynqError: If a loss was not finite; names it and the iteration.
        """
        if self._values is None:
            return self._known
        values, broken = self._values, self._broken
        self._values = None
        if (processes := get_dist_info()[1]) > 1:
            distributed.all_reduce(values)
            distributed.all_reduce(broken, distributed.ReduceOp.MAX)
            values = values / processes
        values, broken = torch.stack([values, broken]).tolist()
        if any(broken):
            iteration = min(filter(None, broken))
            name = self._names[broken.index(iteration)]
            raise DynqError(
                f'The loss {name} was not finite in iteration {int(iteration)}; training stops and the last saved '
                f'checkpoint stays. {self._advice}'
            )
        self._known = dict(zip(self._names, values, strict=True))
        return self._known

    def glance(self) -> dict[str, float]:
        """The same for one process by itself, as the one that has a progress bar: of several, what was read last."""
        return self.read() if get_dist_info()[1] == 1 else self._known
