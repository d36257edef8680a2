"""Activation quantizers, found by the name in ``quantization.activation.quantizer``."""

from dynq_basicsr.quantization.quantizers import minmax, range_table, step_table  # noqa: F401 (they register themselves)
from dynq_basicsr.quantization.quantizers.base import QUANTIZERS, ActivationQuantizer

__all__ = ['QUANTIZERS', 'ActivationQuantizer']
