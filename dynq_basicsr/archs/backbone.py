"""A network that is built, and what it was built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from dynq_basicsr.archs.arch_options import build_backbone, describe_module, network_options


@dataclass(frozen=True)
class Backbone:
    """A float network.

    Attributes:
        network: The network.
        options: Those of the registered architecture that it is, ``{type: EDSR, ...}``; None: somebody else built it.
    """

    network: nn.Module
    options: Mapping[str, object] | None = None

    @classmethod
    def of(cls, given: Mapping[str, object] | nn.Module | Backbone) -> Backbone:
        """Build what is given as options; what is built already is taken as it is.

        Raises:
            DynqError: If the architecture is not registered, or refuses its options.
        """
        if isinstance(given, Backbone):
            return given
        return cls(given) if isinstance(given, nn.Module) else cls(build_backbone(given), given)

    @property
    def description(self) -> dict[str, object]:
        """The options as they take effect, or what stands for them."""
        return describe_module(self.network) if self.options is None else network_options(self.options)
