"""What an iteration of training tells: fetched from the device when somebody looks, not in each iteration."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, distributed

from dynq_basicsr.errors import DynqError
from dynq_basicsr.training.distributed import together

TIMES = 100.0  # how often its start a loss has to be, ...
IN_A_ROW = 10  # ... and in how many iterations one after the other, to count as diverged


class Diverged(DynqError):
    """A loss that training does not come back from: not finite, or far above its start."""


class TrainingFigures:
    """Losses and other figures of the newest iteration, and the first iteration in which a loss had diverged.

    A GPU that is asked for a number has to finish its work first, so an iteration only lays its figures down; ``read``
    is called where they are printed, and before anything is saved or validated.
    """

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._values: Tensor | None = None
        self._limits: dict[str, Tensor] = {}
        self._row: Tensor | None = None  # (names,), limit of each, infinity: none
        self._above: Tensor | None = None  # (names,), iterations one after the other in which each was above it
        self._broken: Tensor | None = None  # (2, names), first iteration that was not finite, or too far up; 0: none
        self._known: dict[str, float] = {}
        self._dubious = False

    @torch.no_grad()
    def limit(self, name: str, start: Tensor, useless: Tensor) -> None:
        """Say when a loss counts as diverged; the first call for a name counts, all others change nothing.

        Args:
            name: Of the loss.
            start: What it is before anything was learned; ``TIMES`` that is the limit.
            useless: What a network that learned nothing would reach; a limit is not below it.
        """
        if name not in self._limits:
            self._limits[name] = torch.maximum(TIMES * start.detach().float().mean(), useless.detach().float().mean())
            self._names = ()

    def has_limit(self, name: str) -> bool:
        """Whether ``limit`` was called for that loss, in this run or the one that it goes on from."""
        return name in self._limits

    def limits(self) -> dict[str, float]:
        """The limits as plain values, for ``resume``."""
        return {name: value.item() for name, value in self._limits.items()}

    def resume(self, limits: Mapping[str, float]) -> None:
        """Take over the limits of the run that this one goes on from."""
        self._limits = {name: torch.tensor(value) for name, value in limits.items()}
        self._names = ()

    @torch.no_grad()
    def note(self, iteration: int, losses: Mapping[str, Tensor], others: Mapping[str, Tensor] | None = None) -> None:
        """Take the figures of an iteration.

        Args:
            iteration: Its number, from 1.
            losses: Scalars, which must be finite and stay below their limits.
            others: Scalars that are told beside them.
        """
        figures = {**losses, **(others or {})}
        values = torch.stack([value.detach().float().mean() for value in figures.values()])
        if self._names != tuple(figures):
            self.read()
            self._begin(tuple(figures), values)
        self._above = torch.where(values > self._row, self._above + 1, 0.0)
        wrong = torch.stack([~values.isfinite(), self._above >= IN_A_ROW])
        wrong[:, len(losses) :] = False
        self._broken = torch.where(wrong & (self._broken == 0), float(iteration), self._broken)
        self._values = values

    def _begin(self, names: tuple[str, ...], values: Tensor) -> None:
        none = torch.full((), math.inf, device=values.device)
        self._names = names
        self._row = torch.stack([self._limits.get(name, none).to(values.device) for name in names])
        self._above, self._broken = torch.zeros_like(values), values.new_zeros(2, len(names))

    def read(self) -> dict[str, float]:
        """The newest figures, mean over processes; all of them must ask for them together.

        Raises:
            Diverged: If a loss was not finite, or too long above its limit; names it and the iteration.
        """
        if self._values is None:
            return self._known
        values, found = self._values, torch.cat([self._broken, self._above[None]])
        self._values = None
        if (processes := get_dist_info()[1]) > 1:
            with together():
                distributed.all_reduce(values)
                distributed.all_reduce(found, distributed.ReduceOp.MAX)
            values = values / processes
        values, infinite, far, above = torch.cat([values[None], found]).tolist()
        self._dubious = any(above)
        for iterations, problem in ((infinite, 'was not finite'), (far, self._too_far(far))):
            if any(iterations):
                iteration = min(filter(None, iterations))
                name = self._names[iterations.index(iteration)]
                raise Diverged(f'The loss {name} {problem} in iteration {int(iteration)}.')
        self._known = dict(zip(self._names, values, strict=True))
        return self._known

    def _too_far(self, iterations: list[float]) -> str:
        if not any(iterations):
            return ''
        name = self._names[iterations.index(min(filter(None, iterations)))]
        return f'was far above its start, more than {self._limits[name].item():.3g}, for the {IN_A_ROW}th time in a row'

    @property
    def dubious(self) -> bool:
        """Whether a loss was above its limit when it was read last."""
        return self._dubious

    @property
    def known(self) -> dict[str, float]:
        """What was read last."""
        return self._known
