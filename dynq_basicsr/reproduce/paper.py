"""A paper as a command: its tables, its networks, and the options that choose among them; imports nothing heavy."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass

from dynq_basicsr.reproduce.rows import SETS, Backbone, Protocol, Quick, Table

GOES_ON = 'what is done is kept, the same command goes on from it.'


@dataclass(frozen=True)
class CostTable:
    """A table that is computed, not run.

    Attributes:
        key: Name of the files that are written.
        protocol: Of the runs whose records it reads.
        module: Has ``table(plan)``, which gives the Markdown, the columns of the CSV, and its rows.
    """

    key: str
    protocol: Protocol
    module: str


@dataclass(frozen=True)
class Paper:
    """A paper, its tables, and how they are made here.

    Attributes:
        tables: Number in the paper, or a name of ours -> table.
        backbones: Key -> float network.
        quick: What ``--quick`` does less of.
        default: Key of the backbone that needs no naming.
        sets: Data sets to choose from; those of ``SETS`` are taken where nothing is chosen.
        data_remedy: As ``Plan.data_remedy``.
        any_length: Whether ``--iterations`` can set the length of trainings.
    """

    tables: Mapping[str, Table | CostTable]
    backbones: Mapping[str, Backbone]
    quick: Quick
    default: str
    sets: tuple[str, ...] = SETS
    data_remedy: str = ''
    any_length: bool = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the command."""
        parser.add_argument('--table', choices=sorted(self.tables), required=True,
                            help='number in the paper, or a name')  # fmt: skip
        parser.add_argument('--backbone', choices=self.backbones, default=self.default,
                            help='float network (default: %(default)s)')  # fmt: skip
        parser.add_argument('--sets', nargs='+', choices=self.sets, metavar='SET',
                            help=f'of {", ".join(self.sets)} (default: {", ".join(SETS)})')  # fmt: skip
        images = ', '.join(f'of {name} {count} images' for name, count in self.quick.images.items())
        parser.add_argument('--quick', action='store_true',
                            help=f'{" and ".join(self.quick.sets)} alone, {images}; {self.quick.words}')  # fmt: skip
        if self.any_length:
            parser.add_argument('--iterations', type=_positive, metavar='N',
                                help='of each training, the schedule with it')  # fmt: skip
        parser.set_defaults(iterations=None)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, not {number}')
    return number
