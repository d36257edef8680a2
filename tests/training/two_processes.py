"""What two processes do together; torchrun starts it, and each rank writes what it saw as JSON.

Arguments: an option file for testing, a folder with an image that is no image, and the folder of results.
"""

import json
import sys
from pathlib import Path

import torch
from torch import distributed, nn

from dynq_basicsr import cli

OPTIONS, DAMAGED, RESULTS = sys.argv[1:]
sys.argv = ['test.py', '-opt', OPTIONS, '--launcher', 'pytorch']
assert cli.main(['test', *sys.argv[1:]]) == 0

from basicsr.data import build_dataloader, build_dataset  # noqa: E402
from basicsr.models import build_model  # noqa: E402
from basicsr.utils.options import parse_options  # noqa: E402

from dynq_basicsr.compat import options  # noqa: E402
from dynq_basicsr.errors import DynqError  # noqa: E402
from dynq_basicsr.training.distributed import broadcast_module, gather  # noqa: E402
from dynq_basicsr.training.figures import TrainingFigures  # noqa: E402

rank = distributed.get_rank()
options.options.init_dist = lambda launcher: None  # the processes have met already
opt = parse_options('.', is_train=False)[0]


def sentence_of_a_damaged_image() -> str:
    data = {'name': 'damaged', 'type': 'CheckedPairedImageDataset', 'phase': 'test', 'scale': 2,
            'dataroot_gt': f'{DAMAGED}/HR', 'dataroot_lq': f'{DAMAGED}/LR', 'io_backend': {'type': 'disk'}}  # fmt: skip
    loader = build_dataloader(build_dataset(data), data, num_gpu=0, dist=True, sampler=None, seed=0)
    try:
        build_model(opt).validation(loader, 'damaged', None, False)
    except DynqError as error:
        return str(error)
    return 'none'


def values_after_a_broadcast() -> list[float]:
    module = nn.Conv2d(1, 1, 1)
    module.register_buffer('flag', torch.tensor(rank == 0))
    with torch.no_grad():
        module.weight.fill_(rank + 3)
    broadcast_module(module)
    return [module.weight.item(), bool(module.flag)]


def figures_and_what_one_rank_alone_broke() -> list:
    figures = TrainingFigures()
    figures.note(1, {'l_pix': torch.tensor(1.0 + rank)}, {'bits': torch.tensor(4.0 + 2 * rank)})
    found = figures.read()
    figures.note(2, {'l_pix': torch.tensor(float('nan') if rank else 1.0)}, {'bits': torch.tensor(4.0)})
    figures.note(3, {'l_pix': torch.tensor(1.0)}, {'bits': torch.tensor(4.0)})
    try:
        figures.read()
    except DynqError as error:
        return [found, str(error)]
    return [found, 'none']


seen = {
    'error': sentence_of_a_damaged_image(),
    'broadcast': values_after_a_broadcast(),
    'gathered': gather(rank),
    'figures': figures_and_what_one_rank_alone_broke(),
}
Path(RESULTS, f'rank_{rank}.json').write_text(json.dumps(seen))
