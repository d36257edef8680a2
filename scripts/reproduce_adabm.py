"""Make a table of AdaBM (Hong and Lee, CVPR 2024) again, our figures beside the paper's.

    python scripts/reproduce_adabm.py --table 2|3|4|5|plus [--backbone srresnet|edsr_small|edsr|rdn] [--quick]

Table 2: adaptive bit-widths; 3: fully quantized, with baselines; 4: ablation; 5: costs; plus: our own recipe and its
ingredients. Writes ``results/tables/adabm_table<k>.md`` and ``.csv``, anew after each row. What was run with the same
options is not run again, so the same command goes on after an interruption.
"""

from __future__ import annotations

import sys

import adabm_costs
from adabm_tables import BACKBONES, PATCHES, QUICK, TABLES
from table_command import CostTable, Paper, main

PAPER = Paper(
    'reproduce_adabm.py',
    __doc__.splitlines()[0],
    {**TABLES, '5': CostTable('adabm_table5', PATCHES, adabm_costs.table)},
    BACKBONES,
    QUICK,
    'srresnet',
)

if __name__ == '__main__':
    sys.exit(main(PAPER))
