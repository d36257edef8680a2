"""What a table of a paper consists of: networks, rows with their option files and overrides, the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Figures:
    """What a paper reports of one network on one data set: PSNR in dB, SSIM, mean activation bits."""

    psnr: float
    ssim: float
    fab: float


@dataclass(frozen=True)
class Backbone:
    """A float network that rows start from.

    Attributes:
        key: As the command line and the names of experiments have it.
        title: As tables have it; the paper's name where it is the paper's network.
        source: Option file whose ``network_g`` it is, relative to the project.
        checkpoints: Files of its weights, relative to the project; the first that exists is taken.
        remedy: What to do where there is none, a clause.
        paper: Networks of the paper to compare with, best first.
        train: Overrides of a row's option file, as far as that has the keys.
    """

    key: str
    title: str
    source: str
    checkpoints: tuple[str, ...]
    remedy: str
    paper: tuple[str, ...]
    train: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        key: Part of the experiment's name; rows of one key are one network, in whichever table they stand.
        label: What the table shows.
        bits: Of weights and activations, as the table shows them.
        base: Option file to train with, relative to the project; None: nothing is trained.
        overrides: Dotted keys and values on top of it.
        paper: Network of the paper -> data set -> figures.
        ours: False for a row that only the paper has.
    """

    key: str
    label: str
    bits: str
    base: str | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    paper: Mapping[str, Mapping[str, Figures]] = field(default_factory=dict)
    ours: bool = True


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        key: Name of the files that are written.
        title: Headline.
        patch_size: Side of the patches of evaluation in LR pixels, which do not overlap; None: whole images.
        rows: The float network first.
        notes: Sentences below the table.
    """

    key: str
    title: str
    patch_size: int | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """The networks that the paper's table has, in all its rows."""
        return tuple(one for one in self.rows[0].paper if all(one in row.paper for row in self.rows))

    def network_for(self, backbone: Backbone) -> str | None:
        """The paper's network that stands beside ours; None where the table is our own."""
        return next((name for name in (*backbone.paper, *self.networks) if name in self.networks), None)
