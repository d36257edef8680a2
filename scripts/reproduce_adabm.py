"""Make a table of AdaBM (Hong and Lee, CVPR 2024) again, our figures beside the paper's.

    python scripts/reproduce_adabm.py --table 2|3|4|5|plus [--backbone srresnet|edsr_small|edsr|rdn] [--quick]

Table 2: adaptive bit-widths; 3: fully quantized, with baselines; 4: ablation; 5: costs; plus: our own recipe and its
ingredients. Writes ``results/tables/adabm_table<k>.md`` and ``.csv``, anew after each row. What was run with the same
options is not run again, so the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import adabm_costs
import table_writer
from adabm_tables import BACKBONES, QUICK_IMAGES, QUICK_SETS, QUICK_TRAIN, SETS, TABLES
from run_module import run_module
from table_options import Plan
from table_rows import Backbone, Table
from table_runner import Execute, Outcome, TableRunner

from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.command import run_command

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = 'srresnet'
COSTS = '5'


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
    checkpoint = plan.float_network()[1]
    notes = [
        f'Float weights: `{checkpoint}`. One run each, evaluated '
        + (f'in patches of {plan.patch_size}, the float network, too.' if plan.patch_size else 'on whole images.')
    ]
    shortened = [row.label for row in table.rows if row.base and plan.job(row).train['name'].endswith('_quick')]
    notes += [f'Quick, with a shorter fine-tuning: {", ".join(dict.fromkeys(shortened))}.'] if shortened else []
    cut = {name: count for name, count in (plan.quick_images or {}).items() if name in plan.sets}
    notes += [f'Ours on {name}: its first {count} images; the paper: all of them.' for name, count in cut.items()]

    def write(outcome: Outcome) -> None:
        lines = table_writer.compare(table, plan.backbone, plan.sets, outcome)
        text = table_writer.markdown(table, plan.backbone, lines, outcome, notes)
        table_writer.write_files(stem, text, table_writer.FIELDS, lines)

    return TableRunner(plan, execute).run(table.rows, write)


def run(number: str, backbone: Backbone, sets: Sequence[str] | None, quick: bool, root: Path = ROOT) -> list[str]:
    """Do what the command line asks for; return the failures.

    Args:
        number: Of the table in the paper, or its name.
        backbone: The float network.
        sets: Data sets; None: all of them, or those of a quick run.
        quick: Shorter training, fewer images.
        root: The project's folder.
    """
    key = '' if backbone.key == DEFAULT else f'_{backbone.key}'
    if number == COSTS:
        stem = root / 'results' / 'tables' / f'adabm_table5{key}'
        lines, failures = adabm_costs.costs(root, backbone), []
        table_writer.write_files(stem, adabm_costs.markdown(lines, backbone), adabm_costs.FIELDS, lines)
    else:
        table = TABLES[number]
        stem = root / 'results' / 'tables' / f'{table.key}{key}{"_quick" if quick else ""}'
        plan = Plan(
            root,
            backbone,
            tuple(sets or (QUICK_SETS if quick else SETS)),
            table.patch_size,
            QUICK_TRAIN if quick else None,
            QUICK_IMAGES if quick else None,
        )
        failures = list(reproduce(table, plan, stem).failures.values())
    sys.stdout.write(f'\n{stem.with_suffix(".md").read_text(encoding="utf-8")}\nWritten to {stem}.md and .csv.\n')
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        The exit code: 0; 2 after an error that the user can mend, in a row or in all; 130 when interrupted.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--table', choices=sorted((*TABLES, COSTS)), required=True, help='number in the paper, or plus')
    parser.add_argument('--backbone', choices=BACKBONES, default=DEFAULT, help='float network (default: %(default)s)')
    parser.add_argument('--sets', nargs='+', choices=SETS, metavar='SET', help=f'of {", ".join(SETS)} (default: all)')
    parser.add_argument('--quick', action='store_true',
                        help='Set5 and the first 20 images of Urban100, shorter fine-tuning')  # fmt: skip
    given = parser.parse_args(arguments)

    def act() -> None:
        if given.table == COSTS and (given.sets or given.quick):
            raise DynqError('--table 5 computes costs; leave out --sets and --quick.')
        failures = run(given.table, BACKBONES[given.backbone], given.sets, given.quick)
        if failures:
            raise DynqError(f'{len(failures)} rows failed, see below the table; the first: {failures[0]}')

    try:
        return run_command(act)
    except KeyboardInterrupt:
        sys.stderr.write('\nreproduce_adabm.py: interrupted; what is done is kept, the same command goes on from it.\n')
        return 130


if __name__ == '__main__':
    sys.exit(main())
