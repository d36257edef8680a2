"""Granular-DQ's Table 2: mean bits, sizes and BitOPs of EDSR x4, computed exactly, beside the mean bits of our runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.tables import format_table
from dynq_basicsr.reproduce.costs import UNEXPLAINED, mean_pixels, measure, number, prepare
from dynq_basicsr.reproduce.granular_tables import BACKBONES, FLOAT, GRANULAR, PAMS
from dynq_basicsr.reproduce.options import Plan
from dynq_basicsr.reproduce.rows import Row
from dynq_basicsr.reproduce.runner import TableRunner

FIELDS = (
    'method', 'weight_bits', 'fab', 'size_k', 'paper_size_k', 'bitops_1080p_t', 'bitops_urban100_t', 'paper_bitops_t',
    'our_fab', 'our_size_k', 'our_bitops_1080p_t', 'note',
)  # fmt: skip
COLUMNS = (
    'network', 'W', 'FAB', 'size', 'paper: size', 'BitOPs, 1920 x 1080', 'BitOPs, Urban100', 'paper: BitOPs',
    'ours: FAB', 'size', 'BitOPs, 1920 x 1080', '',
)  # fmt: skip


@dataclass(frozen=True)
class CostRow:
    """A row of Table 2.

    Attributes:
        method: What the table shows.
        fab: The paper's, on Urban100.
        size: The paper's, thousands of parameters.
        bitops: The paper's, 10^12.
        note: What one must know of the paper's figures.
        row: Of Table 1, which is what is built and run here; None: this package has no such method.
    """

    method: str
    fab: float
    size: float
    bitops: float
    note: str
    row: Row | None = None


ROWS = (
    CostRow('float', 32, 1518, 527.0, 'the paper\'s BitOPs: 1920 x 1080', FLOAT),
    CostRow('PAMS', 8.00, 631, 101.9, f'size without the biases of the blocks; {UNEXPLAINED}', PAMS),
    CostRow('CADyQ', 6.09, 489, 82.6, f'size with 4-bit weights; {UNEXPLAINED}'),
    CostRow('CABM', 5.80, 486, 82.4, f'size with 4-bit weights; {UNEXPLAINED}'),
    CostRow('Granular-DQ', 4.97, 486, 73.6, f'size is CABM\'s, with 4-bit weights; {UNEXPLAINED}', GRANULAR),
)


def table(plan: Plan) -> tuple[str, Sequence[str], list[dict[str, object]]]:
    """Markdown, columns and rows of the table."""
    lines = costs(plan)
    return markdown(lines, plan), FIELDS, lines


def costs(plan: Plan) -> list[dict[str, object]]:
    """One mapping of ``FIELDS`` for each row; None where nothing is known.

    Args:
        plan: Of the runs of Table 1 that give our mean bits.
    """
    prepare()
    edsr = replace(plan, backbone=BACKBONES['edsr'])
    urban = mean_pixels(plan.root / 'datasets/benchmarks/Urban100/LR_bicubic/X4')
    lines = []
    for one in ROWS:
        size = hd = on_urban = weight = None
        ours: dict[str, float | None] = dict.fromkeys(('our_fab', 'our_size_k', 'our_bitops_1080p_t'))
        if one.row:
            network = network_of(edsr, one.row)
            weight = network.get('quantization', {}).get('weight', {}).get('bits', 32)
            size, hd, on_urban = measure(network, one.fab, urban)
            ours = our_costs(plan, one.row)
        lines.append({
            'method': one.method, 'weight_bits': weight, 'fab': one.fab, 'size_k': size, 'paper_size_k': one.size,
            'bitops_1080p_t': hd, 'bitops_urban100_t': on_urban, 'paper_bitops_t': one.bitops, **ours,
            'note': one.note,
        })  # fmt: skip
    return lines


def network_of(plan: Plan, row: Row) -> dict:
    """Options of the network of a row.

    Raises:
        DynqError: If an option file or the weights are missing.
    """
    return plan.job(row).train['network_g'] if row.base else plan.float_network()[0]


def our_costs(plan: Plan, row: Row) -> dict[str, float | None]:
    """Mean bits on Urban100 of a row that was run for Table 1, and the costs of its network at these; None if unknown.

    Args:
        plan: Of the run.
        row: Of Table 1.
    """
    try:
        network = network_of(plan, row)
        fab = TableRunner(plan).known(plan.job(row)).get('Urban100', {}).get('fab')
    except DynqError:  # no weights; Table 1 says so
        network = fab = None
    size = bitops = None
    if fab is not None:
        size, bitops, _ = measure(network, fab, None)
    return {'our_fab': fab, 'our_size_k': size, 'our_bitops_1080p_t': bitops}


def markdown(lines: Sequence[Mapping], plan: Plan) -> str:
    """The table for people."""
    rows = [
        [
            line['method'], number(line['weight_bits'], decimals=0), number(line['fab'], decimals=2),
            number(line['size_k'], 'K'), number(line['paper_size_k'], 'K', 0), number(line['bitops_1080p_t'], 'T'),
            number(line['bitops_urban100_t'], 'T'), number(line['paper_bitops_t'], 'T'),
            number(line['our_fab'], decimals=2), number(line['our_size_k'], 'K'),
            number(line['our_bitops_1080p_t'], 'T'), line['note'],
        ]
        for line in lines
    ]  # fmt: skip
    images = f', its first {plan.quick.images["Urban100"]} images' if plan.quick else ''
    notes = (
        'FAB, size and BitOPs up to "paper: BitOPs": EDSR x4 with the paper\'s FAB on Urban100 and weights of W bits, '
        'exact. A size counts a weight of b bits as b/32 of a parameter, and whatever else is learned whole. Rows '
        'without W are the paper\'s alone.',
        f'"ours": {plan.backbone.title}, with the FAB on Urban100{images} of the runs that `dynq reproduce granular '
        '--table 1` made with the same options; a dash where there is none yet.',
        'BitOPs = 2 * MACs * weight bits * activation bits, 32 * 32 for float; additions of biases and activation '
        'functions are float. "Urban100" is a result of the mean size of its images. The controller is not counted.',
        'Of the paper\'s BitOPs only 527.0T fits this account, and no other was found that gives the rest. PAMS\'s '
        '101.9T is the float part and 8/32 * 8/32 of the rest (the formula of CADyQ\'s author) if 73.6T of the 527.0T '
        'stay float; but that is 14 %, and EDSR x4 leaves 40.5 % in float. CADyQ\'s and CABM\'s figures do not fit '
        'that split, either, and Granular-DQ\'s 73.6T is that float part alone, as if quantized layers cost nothing: '
        'FAB 4.97 gives 91.2T there.',
        'Of the paper\'s sizes, Granular-DQ\'s 486K repeats CABM\'s, which is that of 4-bit weights; its own weights '
        'have 8 bits.',
    )
    parts = ['# Granular-DQ, Table 2: costs, x4', format_table(COLUMNS, rows, 'markdown')]
    return '\n\n'.join([*parts, *(f'- {note}' for note in notes)]) + '\n'
