"""Optimizers that neither start a kernel a parameter nor wait for the device."""

from __future__ import annotations

import torch

FUSED = ('Adam', 'AdamW')  # optimizers of BasicSR that have such a form


def fused(device: torch.device) -> bool:
    """Whether Adam and its kin run as one kernel there; the plain ones read the count of steps of each parameter."""
    return device.type in ('cpu', 'cuda')
