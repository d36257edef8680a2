"""Tables of test runs, from the ``metrics.json`` that each of them writes.

    dynq report tables results/RUN_A results/RUN_B [--markdown]

prints one row a run and one column for each metric of each data set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dynq_basicsr.errors import DynqError

STYLES = ('plain', 'markdown')


def read_metrics(run: str | Path) -> dict[str, dict[str, float]]:
    """Read the figures of one run.

    Args:
        run: Its results folder, or the ``metrics.json`` in it.

    Returns:
        Data set -> metric -> mean.

    Raises:
        DynqError: If the file is missing or holds something else.
    """
    path = Path(run)
    path = path / 'metrics.json' if path.suffix != '.json' else path
    if not path.is_file():
        raise DynqError(f'{path}: no such file; it is written by `dynq test`.')
    try:
        means = json.loads(path.read_text(encoding='utf-8'))
        return {dataset: {key: float(value) for key, value in row.items()} for dataset, row in means.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise DynqError(f'{path}: not a mapping of data sets to metrics; run the test again.') from error


def format_column(values: Sequence[float | None], unit: str = '') -> list[str]:
    """Write a column of numbers with equal decimals: four where all are at most 1 (SSIM), else two.

    Args:
        values: None: nothing was measured.
        unit: Written behind each number.

    Returns:
        One text a value; a dash for None.
    """
    known = [abs(value) for value in values if value is not None]
    decimals = 4 if known and max(known) <= 1 else 2
    return ['-' if value is None else f'{value:.{decimals}f}{unit}' for value in values]


def metrics_table(runs: Mapping[str, str | Path]) -> tuple[list[str], list[list[str]]]:
    """Collect runs into one table.

    Args:
        runs: Label of a row -> results folder.

    Returns:
        Headers and rows; the columns are all metrics of all data sets, in the order in which runs name them.

    Raises:
        DynqError: As ``read_metrics``.
    """
    figures = [read_metrics(run) for run in runs.values()]
    datasets = dict.fromkeys(dataset for run in figures for dataset in run)
    columns = [
        (dataset, metric)
        for dataset in datasets
        for metric in dict.fromkeys(metric for run in figures for metric in run.get(dataset, {}))
    ]
    cells = [format_column([run.get(dataset, {}).get(metric) for run in figures]) for dataset, metric in columns]
    headers = ['run', *(f'{dataset} {metric}' for dataset, metric in columns)]
    return headers, [[label, *(column[row] for column in cells)] for row, label in enumerate(runs)]


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]], style: str = 'plain') -> str:
    """Lay out a table: first column to the left, the others to the right.

    Args:
        headers: One a column.
        rows: Cells.
        style: ``plain`` for a terminal, ``markdown`` for a document.

    Raises:
        DynqError: If the style is unknown.
    """
    if style not in STYLES:
        raise DynqError(f'the style of a table must be one of {", ".join(STYLES)}, not {style!r}.')
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]
    lines = []
    for row in (headers, *rows):
        cells = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(f'| {" | ".join(cells)} |' if style == 'markdown' else '  '.join(cells))
    if style == 'markdown':
        rules = ['-' * width if not column else '-' * (width - 1) + ':' for column, width in enumerate(widths)]
        rules = [rule.ljust(3, '-') for rule in rules]
        lines.insert(1, f'| {" | ".join(rules)} |')
    else:
        lines.insert(1, '  '.join('─' * width for width in widths))
    return '\n'.join(lines)
