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


SETS = ('Set5', 'Set14', 'BSD100', 'Urban100')


def figures(text: str, fab: float = 32, sets: tuple[str, ...] = SETS) -> dict[str, Figures]:
    """Read ``PSNR/SSIM`` or ``PSNR/SSIM@FAB``, one a data set.

    Args:
        text: Separated by blanks.
        fab: Where none is given.
        sets: As many data sets.
    """
    found = {}
    for name, cell in zip(sets, text.split(), strict=True):
        quality, _, bits = cell.partition('@')
        psnr, ssim = map(float, quality.split('/'))
        found[name] = Figures(psnr, ssim, float(bits) if bits else fab)
    return found


@dataclass(frozen=True)
class Protocol:
    """How the networks of a table are evaluated.

    Attributes:
        file: Option file with all data sets and metrics, relative to the project.
        patch_size: Side of the patches in LR pixels; None: whole images.
        patch_step: From one patch to the next, LR pixels; None: they do not overlap.
    """

    file: str
    patch_size: int | None = None
    patch_step: int | None = None

    @property
    def key(self) -> str:
        """Part of the names of tests."""
        if not self.patch_size:
            return 'whole'
        return f'patches{self.patch_size}' + (f'step{self.patch_step}' if self.patch_step else '')

    @property
    def words(self) -> str:
        """What a table says of it."""
        if not self.patch_size:
            return 'on whole images'
        step = f' every {self.patch_step} pixels' if self.patch_step else ''
        return f'in patches of {self.patch_size}{step}, the float network, too'


@dataclass(frozen=True)
class Quick:
    """What a quick run does less of.

    Attributes:
        words: What a table says of it.
        sets: Data sets, where the user names none.
        images: Data set -> of how many images, the first by name.
        train: Overrides of every option file of a training, as far as it has the keys; calibration stays whole.
        iterations: Of a training, its schedule with it; None: those of the option file and of ``train``.
    """

    words: str
    sets: tuple[str, ...]
    images: Mapping[str, int] = field(default_factory=dict)
    train: Mapping[str, object] = field(default_factory=dict)
    iterations: int | None = None


@dataclass(frozen=True)
class Backbone:
    """A float network that rows start from.

    Attributes:
        key: As the command line and the names of experiments have it.
        title: As tables have it; the paper's name where it is the paper's network.
        source: Option file whose ``network_g``, or its ``backbone``, it is, relative to the project.
        checkpoints: Files of its weights, relative to the project; the first that exists is taken. None: the
            ``path.pretrain_network_g`` of the source; where that is none either, networks are trained from scratch.
        remedy: What to do where there is none, a clause.
        paper: Networks of the paper to compare with, best first.
        train: Overrides of a row's option file, as far as that has the keys.
    """

    key: str
    title: str
    source: str
    checkpoints: tuple[str, ...] | None
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
        base: Option file to train with, relative to the project, ``{backbone}`` standing for the backbone's key; None:
            nothing is trained.
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
        protocol: How networks are evaluated.
        rows: The float network first. A row of the paper alone may be missing for some networks.
        notes: Sentences below the table.
    """

    key: str
    title: str
    protocol: Protocol
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def networks(self) -> tuple[str, ...]:
        """The networks that the paper's table has, in all rows that are also ours."""
        return tuple(one for one in self.rows[0].paper if all(one in row.paper for row in self.rows if row.ours))

    def network_for(self, backbone: Backbone) -> str | None:
        """The paper's network that stands beside ours; None where the table is our own."""
        return next((name for name in (*backbone.paper, *self.networks) if name in self.networks), None)
