"""The command that makes the tables of a paper, whatever paper it is: what is asked for, what is run, how it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import table_writer
from run_module import run_module
from table_options import Plan
from table_rows import SETS, Backbone, Protocol, Quick, Table
from table_runner import Execute, Outcome, TableRunner

from dynq_basicsr.command import run_command
from dynq_basicsr.errors import DynqError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class CostTable:
    """A table that is computed, not run.

    Attributes:
        key: Name of the files that are written.
        protocol: Of the runs whose records it reads.
        make: Gives the Markdown, the columns of the CSV, and its rows.
    """

    key: str
    protocol: Protocol
    make: Callable[[Plan], tuple[str, Sequence[str], list[dict[str, object]]]]


@dataclass(frozen=True)
class Paper:
    """A paper, its tables, and how they are made here.

    Attributes:
        script: Name of the command.
        words: What it does, a sentence.
        tables: Number in the paper, or a name of ours -> table.
        backbones: Key -> float network.
        quick: What ``--quick`` does less of.
        default: Key of the backbone that needs no naming.
        sets: Data sets to choose from; those of ``SETS`` are taken where nothing is chosen.
        data_remedy: As ``Plan.data_remedy``.
        any_length: Whether ``--iterations`` can set the length of trainings.
    """

    script: str
    words: str
    tables: Mapping[str, Table | CostTable]
    backbones: Mapping[str, Backbone]
    quick: Quick
    default: str
    sets: tuple[str, ...] = SETS
    data_remedy: str = ''
    any_length: bool = False


def reproduce(table: Table, plan: Plan, stem: Path, execute: Execute = run_module) -> Outcome:
    """Run the rows of a table and write it, anew after each row.

    Args:
        table: The table.
        plan: How.
        stem: Path of the files without a suffix.
        execute: Runs a command; as ``run_module.run_module``.

    Raises:
        DynqError: If the float network is missing; then nothing is run.
    """
    notes = _notes(table, plan)

    def write(outcome: Outcome) -> None:
        lines = table_writer.compare(table, plan.backbone, plan.sets, outcome)
        text = table_writer.markdown(table, plan.backbone, lines, outcome, notes)
        table_writer.write_files(stem, text, table_writer.FIELDS, lines)

    return TableRunner(plan, execute).run(table.rows, write)


def _notes(table: Table, plan: Plan) -> list[str]:
    checkpoint = plan.float_network()[1]
    weights = f'Float weights: `{checkpoint}`.' if checkpoint else 'No float weights: trained from scratch.'
    notes = [f'{weights} One run each, evaluated {plan.protocol.words}.']
    labels = ', '.join(dict.fromkeys(row.label for row in table.rows if plan.shortens(row)))
    if labels and plan.quick:
        notes.append(f'Quick, {plan.quick.words}: {labels}.')
    if labels and plan.iterations:
        notes.append(f'Trained for {plan.iterations} iterations: {labels}.')
    cut = {name: count for name, count in (plan.quick.images if plan.quick else {}).items() if name in plan.sets}
    return notes + [f'Ours on {name}: its first {count} images; the paper: all of them.' for name, count in cut.items()]


def run(paper: Paper, given: argparse.Namespace, root: Path, execute: Execute) -> list[str]:
    """Do what the command line asks for; return the failures.

    Args:
        paper: Whose table.
        given: The command line.
        root: The project's folder.
        execute: Runs a command; as ``run_module.run_module``.

    Raises:
        DynqError: If it asks for what cannot be.
    """
    table, quick = paper.tables[given.table], paper.quick if given.quick else None
    sets = tuple(dict.fromkeys(given.sets or (quick.sets if quick else SETS)))
    plan = Plan(
        root, paper.backbones[given.backbone], sets, table.protocol, quick, given.iterations, paper.data_remedy
    )
    key = '' if given.backbone == paper.default else f'_{given.backbone}'
    length = f'_{given.iterations}' if given.iterations else ''
    stem = root / 'results' / 'tables' / f'{table.key}{key}{"_quick" if quick else ""}{length}'
    if isinstance(table, CostTable):
        if given.sets:
            sys.stdout.write(f'--table {given.table} computes costs, so --sets changes nothing.\n')
        text, fields, lines = table.make(plan)
        table_writer.write_files(stem, text, fields, lines)
        failures = []
    else:
        failures = list(reproduce(table, plan, stem, execute).failures.values())
    sys.stdout.write(f'\n{stem.with_suffix(".md").read_text(encoding="utf-8")}\nWritten to {stem}.md and .csv.\n')
    return failures


def main(
    paper: Paper, arguments: Sequence[str] | None = None, root: Path = ROOT, execute: Execute = run_module
) -> int:
    """Run from the command line.

    Args:
        paper: Whose tables.
        arguments: None: those of the process.
        root: The project's folder.
        execute: Runs a command; as ``run_module.run_module``.

    Returns:
        The exit code: 0; 2 after an error that the user can mend, in a row or in all; 130 when interrupted.
    """
    given = _parser(paper).parse_args(arguments)

    def act() -> None:
        failures = run(paper, given, root, execute)
        if failures:
            raise DynqError(f'{len(failures)} rows failed, see below the table; the first: {failures[0]}')

    try:
        return run_command(act)
    except KeyboardInterrupt:
        sys.stderr.write(f'\n{paper.script}: interrupted; what is done is kept, the same command goes on from it.\n')
        return 130


def _parser(paper: Paper) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=paper.words)
    parser.add_argument('--table', choices=sorted(paper.tables), required=True, help='number in the paper, or a name')
    parser.add_argument('--backbone', choices=paper.backbones, default=paper.default,
                        help='float network (default: %(default)s)')  # fmt: skip
    parser.add_argument('--sets', nargs='+', choices=paper.sets, metavar='SET',
                        help=f'of {", ".join(paper.sets)} (default: {", ".join(SETS)})')  # fmt: skip
    images = ', '.join(f'of {name} {count} images' for name, count in paper.quick.images.items())
    parser.add_argument('--quick', action='store_true',
                        help=f'{" and ".join(paper.quick.sets)} alone, {images}; {paper.quick.words}')  # fmt: skip
    if paper.any_length:
        parser.add_argument('--iterations', type=_positive, metavar='N', help='of each training, the schedule with it')
    parser.set_defaults(iterations=None)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be at least 1, not {number}')
    return number
