"""Bit policies, found by the name in ``network_g.policy.type``."""

from dynq_basicsr.policies import fixed, granularity_entropy, image_layer  # noqa: F401 (they register themselves)
from dynq_basicsr.policies.base import POLICIES, BitPolicy

__all__ = ['POLICIES', 'BitPolicy']
