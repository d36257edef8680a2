"""From a quantized checkpoint, which describes itself, back to the network."""

from __future__ import annotations

import copy
from os import PathLike
from pathlib import Path

import torch
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.models.self_description import described_network
from dynq_basicsr.workflow.make import choose_device
from dynq_basicsr.workflow.quantized import Quantized


def restore(
    path: str | PathLike[str],
    model: nn.Module | None = None,
    device: str | torch.device = 'auto',
    patch: int | None = None,
) -> Quantized:
    """Load a quantized checkpoint; see ``dynq_basicsr.load``."""
    path = Path(path)
    network = described_network(path, option='the path')
    if not network:
        raise DynqError(f'{path}: describes no quantized network; quantize it first, as `dynq quantize` does.')
    if model is not None:
        network['backbone'] = copy.deepcopy(model)
    net = QuantizedSR(**network)
    load_weights(net, path)
    tiling = TilingOptions() if patch is None else TilingOptions(patch or None)
    return Quantized(net.to(choose_device(device), memory_format=torch.channels_last), tiling)
