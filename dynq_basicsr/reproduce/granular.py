"""The tables of Granular-DQ (Wang et al., AAAI 2025), our figures beside the paper's.

    dynq reproduce granular --table 1|2|3|4|s1|s2 [--iterations N] [--quick] [--sets ...]
        [--backbone srresnet|edsr|idn|swinir_light|hat_s|edsr_small]

Table 1: each backbone in float, PAMS, Granular-DQ; 2: costs; 3: ablation; 4: bits that entropy chooses from; s1: its
thresholds; s2: quantizers. Networks, float weights and schedules are those of ``options/granular_<backbone>.yml``: days
on two CPU cores, so take ``--iterations`` or ``--quick`` there. Writes ``results/tables/granular_table<k>.md`` and
``.csv``, anew after each row. What was run with the same options is not run again, so the same command goes on after an
interruption.
"""

from __future__ import annotations

from dynq_basicsr.reproduce.entry import runner
from dynq_basicsr.reproduce.granular_tables import ALL_SETS, BACKBONES, DATA_REMEDY, PATCHES, QUICK, TABLES
from dynq_basicsr.reproduce.paper import GOES_ON, CostTable, Paper

PAPER = Paper(
    {**TABLES, '2': CostTable('granular_table2', PATCHES, 'dynq_basicsr.reproduce.granular_costs')},
    BACKBONES,
    QUICK,
    'srresnet',
    ALL_SETS,
    DATA_REMEDY,
    any_length=True,
)
INTERRUPTED = GOES_ON
add_arguments = PAPER.add_arguments
run = runner(PAPER)
