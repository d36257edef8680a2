"""Tables of the HTML report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dynq_basicsr.report.html_compare import FLOAT, QUANTIZED, TRUTH, WAYS, Compared

NONE = '–'
_OPEN = '<div class="sheet" tabindex="0" role="group" aria-label="Table, may be scrolled sideways"><table>'


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], words: str = '') -> str:
    """Lay out a table.

    Args:
        heads: Of columns; what stands behind a bar is smaller.
        rows: Cells; the row that is named ``QUANTIZED`` stands out.
        words: Its caption.
    """
    columns = (escape(head).partition('|') for head in heads)
    top = ''.join(f'<th scope="col">{head}{f"<small>{more}</small>" if more else ""}</th>' for head, _, more in columns)
    lines = []
    for name, *cells in rows:
        kind = ' class="ours"' if name == QUANTIZED else ''
        line = ''.join(f'<td>{escape(cell)}</td>' for cell in cells)
        lines.append(f'<tr{kind}><th scope="row">{escape(name)}</th>{line}</tr>')
    caption = f'<caption>{escape(words)}</caption>' if words else ''
    return f'{_OPEN}{caption}<thead><tr>{top}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def figures_table(pictures: Sequence[Compared], sizes: Mapping[str, int] | None = None, words: str = '') -> str:
    """What each way reaches and costs, means over pictures.

    Args:
        pictures: At least one.
        sizes: Way -> bytes on disk; None: no such column.
        words: See ``table``.
    """
    known = [one for one in pictures if TRUTH in one.results]
    columns = {'result': list(WAYS)}
    if known:
        columns['PSNR|against ground truth'] = [_mean_psnr(known, way, TRUTH) for way in WAYS]
    columns['PSNR|against float'] = [_mean_psnr(pictures, way, FLOAT) for way in WAYS]
    columns['mean bits'] = [NONE, '32', f'{np.mean([one.usage.fab() for one in pictures]):.2f}']
    networks = (FLOAT, QUANTIZED)
    costs = [f'{np.mean([one.bitops(way) for one in pictures]):.2f} T' for way in networks]
    columns['BitOPs|at 1920 × 1080'] = [NONE, *costs]
    if sizes is not None:
        columns['size on disk'] = [f'{sizes[way] / 1e6:.2f} MB' if way in sizes else NONE for way in WAYS]
    seconds = [f'{np.mean([one.seconds[way] for one in pictures]):.2f}' for way in networks]
    columns['seconds'] = [NONE, *seconds]
    return table(list(columns), list(zip(*columns.values(), strict=True)), words)


def decibels(value: float | None) -> str:
    """A PSNR for the reader, None where there is none."""
    return NONE if value is None else 'equal' if math.isinf(value) else f'{value:.2f} dB'


def _mean_psnr(pictures: Sequence[Compared], way: str, reference: str) -> str:
    values = [one.psnr(way, reference) for one in pictures]
    return decibels(None if way == reference else float(np.mean(values)))
