"""Makes the tables of a paper, whatever paper it is: what is asked for, what is run, how it ends."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from dynq_basicsr.errors import DynqError
from dynq_basicsr.reproduce import writer
from dynq_basicsr.reproduce.options import Plan
from dynq_basicsr.reproduce.paper import CostTable, Paper
from dynq_basicsr.reproduce.rows import SETS, Table
from dynq_basicsr.reproduce.run_module import run_module
from dynq_basicsr.reproduce.runner import Execute, Outcome, TableRunner


def run(paper: Paper, given: argparse.Namespace, root: Path, execute: Execute = run_module) -> None:
    """Do what the command line asks for.

    Args:
        paper: Whose table.
        given: The command line.
        root: Data, experiments and results lie below it.
        execute: Runs a command; as ``run_module.run_module``.

    Raises:
        DynqError: If it asks for what cannot be, or rows failed.
    """
    table, quick = paper.tables[given.table], paper.quick if given.quick else None
    sets = tuple(dict.fromkeys(given.sets or (quick.sets if quick else SETS)))
    plan = Plan(
        root, paper.backbones[given.backbone], sets, table.protocol, quick, given.iterations, paper.data_remedy
    )
    key = '' if given.backbone == paper.default else f'_{given.backbone}'
    length = f'_{given.iterations}' if given.iterations else ''
    stem = root / 'results' / 'tables' / f'{table.key}{key}{"_quick" if quick else ""}{length}'
    failures: list[str] = []
    if isinstance(table, CostTable):
        if given.sets:
            sys.stdout.write(f'--table {given.table} computes costs, so --sets changes nothing.\n')
        text, fields, lines = import_module(table.module).table(plan)
        writer.write_files(stem, text, fields, lines)
    else:
        failures += reproduce(table, plan, stem, execute).failures.values()
    sys.stdout.write(f'\n{stem.with_suffix(".md").read_text(encoding="utf-8")}\nWritten to {stem}.md and .csv.\n')
    if failures:
        raise DynqError(f'{len(failures)} rows failed, see below the table; the first: {failures[0]}')


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
        lines = writer.compare(table, plan.backbone, plan.sets, outcome)
        text = writer.markdown(table, plan.backbone, lines, outcome, notes)
        writer.write_files(stem, text, writer.FIELDS, lines)

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
