"""Bits of an imaginary network."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from dynq_basicsr.quantization.cost import NetworkCost
from dynq_basicsr.quantization.usage import BitUsage


@pytest.fixture
def make_usage() -> Callable[..., BitUsage]:
    """Return a function of (height, width, boxes, layer name -> bits of each patch)."""

    def make(height: int, width: int, boxes: Sequence[tuple], bits: dict[str, Sequence[float]]) -> BitUsage:
        usage = BitUsage(NetworkCost(dict.fromkeys(bits, 1.0), 4, 1.0, 1.0), list(boxes), height, width)
        usage.bits.update({name: torch.tensor(row, dtype=torch.float32) for name, row in bits.items()})
        return usage

    return make
