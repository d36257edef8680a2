"""AdaBM's Table 5: sizes and BitOPs of EDSR x4, computed exactly, and the times of our runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynq_basicsr.option_files import locate
from dynq_basicsr.report.one_image import read_options
from dynq_basicsr.report.tables import format_table
from dynq_basicsr.reproduce.adabm_tables import BACKBONES
from dynq_basicsr.reproduce.costs import mean_pixels, measure, number, prepare
from dynq_basicsr.reproduce.options import Plan
from dynq_basicsr.reproduce.records import Record
from dynq_basicsr.reproduce.rows import Backbone

FIELDS = (
    'method', 'fully_quantized', 'weight_bits', 'activation_bits', 'size_k', 'paper_size_k', 'bitops_1080p_t',
    'bitops_urban100_t', 'paper_bitops_t', 'seconds', 'paper_time', 'note',
)  # fmt: skip
COLUMNS = (
    'network', 'FQ', 'bits', 'size', 'paper: size', 'BitOPs, 1920 x 1080', 'BitOPs, Urban100', 'paper: BitOPs', 'time',
    'paper: time', '',
)  # fmt: skip
URBAN = 'the paper\'s BitOPs: Urban100'
NO_FORMULA = 'no formula gives the paper\'s, ours is an account of the same bits'


@dataclass(frozen=True)
class CostRow:
    """A row of Table 5.

    Attributes:
        method: What the table shows.
        full: Fully quantized.
        bits: Of weights and, in the mean, of activations: the paper's, also of methods that this package has not.
        size: The paper's, thousands of parameters.
        bitops: The paper's, 10^12.
        time: The paper's, on one RTX 2080Ti.
        key: Of the row in another table whose run gives our time.
        note: What one must know of the paper's figures.
    """

    method: str
    full: bool
    bits: tuple[int, float]
    size: float
    bitops: float
    time: str = ''
    key: str = ''
    note: str = ''


ROWS = (
    CostRow('float', False, (32, 32), 1517.6, 527.0, note='the paper\'s BitOPs: 1920 x 1080'),
    CostRow('CADyQ', False, (4, 6.6), 489.2, 82.6, '40 h', note=f'size and BitOPs: {NO_FORMULA}'),
    CostRow('CABM', False, (4, 5.8), 485.5, 82.4, '70 h', note=f'BitOPs: {NO_FORMULA}'),
    CostRow('AdaBM', False, (4, 4.3), 485.5, 81.6, '71 s', 'adabm_w4a4', f'{URBAN}, products alone'),
    CostRow('MinMax+FT', True, (6, 6), 305.5, 9.2, '75 s', 'minmax_ft_fq_w6a6', URBAN),
    CostRow('Percentile+FT', True, (6, 6), 305.5, 9.2, '101 s', 'percentile_ft_fq_w6a6', URBAN),
    CostRow('PTQ4SR', True, (6, 6), 305.5, 9.2, '124 s', 'ptq4sr_fq_w6a6', URBAN),
    CostRow('AdaBM', True, (6, 5.7), 305.5, 9.0, '76 s', 'adabm_fq_w6a6', URBAN),
)  # fmt: skip


def table(plan: Plan) -> tuple[str, Sequence[str], list[dict[str, object]]]:
    """Markdown, columns and rows of the table."""
    lines = costs(plan.root, plan.backbone)
    return markdown(lines, plan.backbone), FIELDS, lines


def costs(root: Path, backbone: Backbone) -> list[dict[str, object]]:
    """One mapping of ``FIELDS`` for each row; None where nothing is known.

    Args:
        root: The project's folder.
        backbone: Whose runs give the times.
    """
    prepare()
    network = dict(read_options(locate(root, BACKBONES['edsr'].source))['network_g'])
    urban = mean_pixels(root / 'datasets/benchmarks/Urban100/LR_bicubic/X4')
    lines = []
    for row in ROWS:
        size, hd, on_urban = network_costs(network, *row.bits, row.full, urban)
        weight, activation = row.bits
        lines.append({
            'method': row.method, 'fully_quantized': row.full, 'weight_bits': weight, 'activation_bits': activation,
            'size_k': size, 'paper_size_k': row.size, 'bitops_1080p_t': hd, 'bitops_urban100_t': on_urban,
            'paper_bitops_t': row.bitops, 'seconds': seconds_of(root, backbone, row.key), 'paper_time': row.time,
            'note': row.note,
        })  # fmt: skip
    return lines


def network_costs(
    network: Mapping, weight_bits: int, mean_bits: float, full: bool, urban: float | None
) -> tuple[float, float, float | None]:
    """Size and BitOPs of a network, quantized as AdaBM does it.

    Args:
        network: Options of the float network.
        weight_bits: 32: the float network itself.
        mean_bits: Of the activations of adaptive layers.
        full: Fully quantized.
        urban: Input pixels of the mean image of Urban100, if known.

    Returns:
        As ``costs.measure``.
    """
    if weight_bits == 32:
        return measure(network, mean_bits, urban)
    quantization: dict[str, object] = {'weight': {'bits': weight_bits}, 'activation': {'bits': round(mean_bits)}}
    quantization |= {'scope': 'full'} if full else {}
    quantized = {'type': 'QuantizedSR', 'backbone': network, 'quantization': quantization, 'policy': {'type': 'AdaBM'}}
    return measure(quantized, mean_bits, urban)


def seconds_of(root: Path, backbone: Backbone, key: str) -> float | None:
    """Seconds of calibration and fine-tuning of a row that another table ran in one go; else None."""
    name = f'table_{backbone.key}_{key}'
    record = Record.read(root / 'experiments' / 'tables' / name / 'row.json')
    return sum(record.seconds.values()) if key and record.seconds else None


def markdown(lines: Sequence[Mapping], backbone: Backbone) -> str:
    """The table for people."""

    rows = [
        [
            line['method'], 'yes' if line['fully_quantized'] else 'no',
            f'{line["weight_bits"]}/{line["activation_bits"]:g}',
            number(line['size_k'], 'K'), number(line['paper_size_k'], 'K'), number(line['bitops_1080p_t'], 'T'),
            number(line['bitops_urban100_t'], 'T'), number(line['paper_bitops_t'], 'T'),
            number(line['seconds'], ' s', 0), line['paper_time'] or '-', line['note'],
        ]
        for line in lines
    ]  # fmt: skip
    notes = (
        'Sizes and BitOPs: EDSR x4, exact. A size counts a weight of b bits as b/32 of a parameter. The bits are those '
        'of the paper\'s sizes and of its mean bits on Urban100 (Tables 2 and 3).',
        'BitOPs = 2 * MACs * weight bits * activation bits, 32 * 32 for float; additions of biases and activation '
        'functions are float. "Urban100" is a result of the mean size of its images. With that, the paper\'s fully '
        'quantized rows are met; its 81.6T is met without biases and activation functions, which add 0.2T; so its rows '
        'stand for different image sizes, and 527.0T for another one than those below it.',
        f'Times: calibration and fine-tuning of {backbone.title}, rows of Tables 2 and 3 that '
        '`dynq reproduce adabm` ran to their end in one go, on this machine; the paper\'s are of an RTX 2080Ti. '
        'CADyQ and CABM: what 4-bit weights and their mean bits cost; this package does not train them.',
    )
    table = format_table(COLUMNS, rows, 'markdown')
    return '\n\n'.join(['# AdaBM, Table 5: costs, x4', table, *(f'- {note}' for note in notes)]) + '\n'
