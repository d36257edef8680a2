"""A table of a paper with our figures beside the paper's, as Markdown for people and as CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from dynq_basicsr.atomic import write_whole
from dynq_basicsr.report.tables import format_table
from dynq_basicsr.reproduce.rows import Backbone, Figures, Table
from dynq_basicsr.reproduce.runner import Outcome

OURS = ('network', 'bits', 'FAB', 'PSNR', 'from float', 'SSIM')
COLUMNS = (*OURS, 'paper: FAB', 'PSNR', 'from float', 'SSIM', 'ours - paper: PSNR', 'from float')
FIELDS = (
    'set', 'network', 'bits', 'fab', 'psnr', 'psnr_from_float', 'ssim',
    'paper_network', 'paper_fab', 'paper_psnr', 'paper_psnr_from_float', 'paper_ssim',
    'psnr_difference', 'psnr_from_float_difference', 'failure',
)  # fmt: skip


def compare(table: Table, backbone: Backbone, sets: Sequence[str], outcome: Outcome) -> list[dict[str, object]]:
    """One mapping of ``FIELDS`` for each data set and row; None where nothing is known.

    Args:
        table: Its first row is the float network, from which differences are taken on both sides.
        backbone: Ours.
        sets: Data sets.
        outcome: Our figures.
    """
    network = table.network_for(backbone)
    rows = [row for row in table.rows if row.ours or network in row.paper]
    lines = []
    for dataset in sets:
        ours = {row.key: outcome.figures.get(row.key, {}).get(dataset) for row in rows}
        paper = {row.key: row.paper.get(network, {}).get(dataset) for row in rows}
        base = rows[0].key
        for row in rows:
            own, theirs = _ours(ours[row.key], ours[base]), _theirs(paper[row.key], paper[base])
            lines.append({
                'set': dataset, 'network': row.label, 'bits': row.bits, **own,
                'paper_network': network, **theirs,
                'psnr_difference': _minus(own['psnr'], theirs['paper_psnr']),
                'psnr_from_float_difference': _minus(own['psnr_from_float'], theirs['paper_psnr_from_float']),
                'failure': outcome.failures.get(row.key),
            })  # fmt: skip
    return lines


def _ours(figures: Mapping[str, float] | None, base: Mapping[str, float] | None) -> dict[str, float | None]:
    figures = figures or {}
    drop = _minus(figures.get('psnr'), (base or {}).get('psnr'))
    return {'fab': figures.get('fab'), 'psnr': figures.get('psnr'), 'psnr_from_float': drop,
            'ssim': figures.get('ssim')}  # fmt: skip


def _theirs(figures: Figures | None, base: Figures | None) -> dict[str, float | None]:
    fab, psnr, ssim = (figures.fab, figures.psnr, figures.ssim) if figures else (None, None, None)
    drop = _minus(psnr, base.psnr if base else None)
    return {'paper_fab': fab, 'paper_psnr': psnr, 'paper_psnr_from_float': drop, 'paper_ssim': ssim}


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def markdown(table: Table, backbone: Backbone, lines: Sequence[Mapping], outcome: Outcome, notes: Sequence[str]) -> str:
    """The whole table: one part a data set, then what one must know to read it."""
    network = table.network_for(backbone)
    columns = COLUMNS if network else OURS
    paper = f'; the paper: {network}' if network else ''
    parts = [f'# {table.title}', f'Ours: {backbone.title}{paper}. PSNR in dB on Y.']
    if network and backbone.title != network:
        parts.append(
            f'The networks differ: compare the columns "from float", each with its own float network, not the PSNR of '
            f'{backbone.title} with that of {network}.'
        )
    for dataset in dict.fromkeys(line['set'] for line in lines):
        cells = [_cells(line)[: len(columns)] for line in lines if line['set'] == dataset]
        parts += [f'## {dataset}', format_table(columns, cells, 'markdown')]
    labels = {row.key: f'{row.label} {row.bits}' for row in table.rows}
    parts += [f'- {note}' for note in (*table.notes, *notes)]
    parts += [f'- {labels[key]} failed: {message}' for key, message in outcome.failures.items()]
    return '\n\n'.join(parts) + '\n'


def _cells(line: Mapping[str, object]) -> list[str]:
    forms = {
        'fab': '.2f', 'psnr': '.2f', 'psnr_from_float': '+.2f', 'ssim': '.4f',
        'paper_fab': '.2f', 'paper_psnr': '.2f', 'paper_psnr_from_float': '+.2f', 'paper_ssim': '.3f',
        'psnr_difference': '+.2f', 'psnr_from_float_difference': '+.2f',
    }  # fmt: skip
    numbers = {key: '-' if line[key] is None else format(line[key], form) for key, form in forms.items()}
    numbers['paper_fab'] = numbers['paper_fab'].removesuffix('0')  # papers have one or two decimals
    return [str(line['network']), str(line['bits']), *numbers.values()]


def write_files(stem: Path, text: str, fields: Sequence[str], lines: Sequence[Mapping]) -> None:
    """Write ``STEM.md`` and ``STEM.csv``, each whole or not at all.

    Args:
        stem: Path without a suffix.
        text: The Markdown.
        fields: Columns of the CSV.
        lines: Its rows; numbers with four decimals.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    file = io.StringIO()
    writer = csv.DictWriter(file, fields, lineterminator='\n')
    writer.writeheader()
    for line in lines:
        writer.writerow({key: round(value, 4) if isinstance(value, float) else value for key, value in line.items()})
    for suffix, content in (('.md', text), ('.csv', file.getvalue())):
        write_whole(stem.with_name(stem.name + suffix), content)
