"""BasicSR's training, as torchrun starts it; each rank also leaves its own network beside the one that rank 0 saves."""

import sys

import torch
from torch import distributed

from dynq_basicsr import cli
from dynq_basicsr.models.granular_model import GranularDQModel

save = GranularDQModel.save


def save_each(model: GranularDQModel, epoch: int, current_iter: int) -> None:
    save(model, epoch, current_iter)
    torch.save(model.network.state_dict(), f'rank_{distributed.get_rank()}.pth')


GranularDQModel.save = save_each
sys.exit(cli.main(['train', *sys.argv[1:]]))
