"""The tables of AdaBM (Hong and Lee, CVPR 2024), our figures beside the paper's.

    dynq reproduce adabm --table 2|3|4|5|plus [--backbone srresnet|edsr_small|edsr|rdn] [--quick]

Table 2: adaptive bit-widths; 3: fully quantized, with baselines; 4: ablation; 5: costs; plus: our own recipe and its
ingredients. Writes ``results/tables/adabm_table<k>.md`` and ``.csv``, anew after each row. What was run with the same
options is not run again, so the same command goes on after an interruption.
"""

from __future__ import annotations

from dynq_basicsr.reproduce.adabm_tables import BACKBONES, PATCHES, QUICK, TABLES
from dynq_basicsr.reproduce.entry import runner
from dynq_basicsr.reproduce.paper import GOES_ON, CostTable, Paper

PAPER = Paper(
    {**TABLES, '5': CostTable('adabm_table5', PATCHES, 'dynq_basicsr.reproduce.adabm_costs')},
    BACKBONES,
    QUICK,
    'srresnet',
)
INTERRUPTED = GOES_ON
add_arguments = PAPER.add_arguments
run = runner(PAPER)
