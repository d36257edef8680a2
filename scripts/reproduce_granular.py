"""Make a table of Granular-DQ (Wang et al., AAAI 2025) again, our figures beside the paper's.

    python scripts/reproduce_granular.py --table 1|2|3|4|s1|s2 [--iterations N] [--quick] [--sets ...]
        [--backbone srresnet|edsr|idn|swinir_light|hat_s|edsr_small]

Table 1: each backbone in float, PAMS, Granular-DQ; 2: costs; 3: ablation; 4: bits that entropy chooses from; s1: its
thresholds; s2: quantizers. Networks, float weights and schedules are those of ``options/granular_<backbone>.yml``: days
on two CPU cores, so take ``--iterations`` or ``--quick`` there. Writes ``results/tables/granular_table<k>.md`` and
``.csv``, anew after each row. What was run with the same options is not run again, so the same command goes on after an
interruption.
"""

from __future__ import annotations

import sys

import granular_costs
from granular_tables import ALL_SETS, BACKBONES, DATA_REMEDY, PATCHES, QUICK, TABLES
from table_command import CostTable, Paper, main

PAPER = Paper(
    'reproduce_granular.py',
    __doc__.splitlines()[0],
    {**TABLES, '2': CostTable('granular_table2', PATCHES, granular_costs.table)},
    BACKBONES,
    QUICK,
    'srresnet',
    ALL_SETS,
    DATA_REMEDY,
    any_length=True,
)

if __name__ == '__main__':
    sys.exit(main(PAPER))
