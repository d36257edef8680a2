"""Repairs of BasicSR's distributed training where there is no GPU."""

from __future__ import annotations

from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util, options
from torch.nn.parallel import DistributedDataParallel


def integer_modulo_by_zero_without_gpu() -> None:
    """Let ``--launcher pytorch`` work on CPUs.

    Symptom: ``ZeroDivisionError: integer modulo by zero`` in ``_init_dist_pytorch``.
    Cause: BasicSR divides by the number of GPUs and always asks for nccl.
    Cure: gloo, where torch sees no GPU.
    """
    options.init_dist = _init_dist


def _init_dist(launcher: str, backend: str = 'nccl', **kwargs: Any) -> None:
    if launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group('gloo', **kwargs)
    else:
        dist_util.init_dist(launcher, backend, **kwargs)


def ddp_wants_a_cuda_device() -> None:
    """Let DistributedDataParallel wrap a network on the CPU.

    Symptom: ``AssertionError: Torch not compiled with CUDA enabled`` in ``model_to_device``.
    Cause: BasicSR always names the current CUDA device.
    Cure: name none for a network on the CPU.
    """
    if BaseModel.model_to_device is not _model_to_device:
        BaseModel.model_to_device = _model_to_device


_model_to_device_with_gpu = BaseModel.model_to_device


def _model_to_device(self: BaseModel, net: torch.nn.Module) -> torch.nn.Module:
    if self.opt['dist'] and self.device.type == 'cpu':
        return DistributedDataParallel(
            net.to(self.device), find_unused_parameters=self.opt.get('find_unused_parameters', False))
    return _model_to_device_with_gpu(self, net)
