"""The grids of activations: what differs between the bit assignments of one network, and so an input of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dynq_basicsr.errors import DynqError, check_number, shown

HIGHEST = 255  # integer of a byte
_LARGEST_SCALE = 1e30  # float32 holds its products with integers of a byte


@dataclass(frozen=True)
class Grid:
    """Integers 0 .. top of an activation; x is near ``scale * (integer - zero_point)``.

    Attributes:
        scale: float32, > 0.
        zero_point: Within 0 .. top.
        top: 2^b - 1; one less for a symmetric range.
    """

    scale: np.float32
    zero_point: int
    top: int

    @classmethod
    def from_values(cls, where: str, values: Mapping[str, object]) -> Grid:
        """Read what ``values`` gives.

        Args:
            where: Begins messages.
            values: ``scale``, ``zero_point`` and ``top``.

        Raises:
            DynqError: If there can be no such grid.
        """
        scale, zero_point, top = (values[key] for key in ('scale', 'zero_point', 'top'))
        check_number(f'{where}: scale', scale, 0, _LARGEST_SCALE)
        if not np.float32(scale) > 0:
            raise DynqError(f'{where}: scale must be above 0, not {shown(scale)}; export the network again.')
        check_number(f'{where}: top', top, 1, HIGHEST, whole=True)
        check_number(f'{where}: zero_point', zero_point, 0, top, whole=True)
        return cls(np.float32(scale), zero_point, top)

    def values(self) -> dict[str, float | int]:
        """The same as plain numbers, which a manifest holds without loss."""
        return {'scale': float(self.scale), 'zero_point': int(self.zero_point), 'top': int(self.top)}

    @property
    def ceiling(self) -> np.float32:
        """The value of ``top``, float32: values above it become ``top``."""
        return np.float32(self.top - self.zero_point) * self.scale

    def inputs(self, layer: str) -> dict[str, np.ndarray]:
        """Its numbers by the names that they have as inputs of a graph, scalars.

        Args:
            layer: Whose input it quantizes.
        """
        return {
            scale_of(layer): np.array(self.scale, np.float32),
            zero_point_of(layer): np.array(self.zero_point, np.uint8),
            top_of(layer): np.array(self.top, np.uint8),
            ceiling_of(layer): np.array(self.ceiling, np.float32),
        }


Grids = Mapping[str, Grid]  # by layer


def scale_of(layer: str) -> str:
    """Name of a graph's input."""
    return f'scale of {layer}'


def zero_point_of(layer: str) -> str:
    """Name of a graph's input."""
    return f'zero point of {layer}'


def top_of(layer: str) -> str:
    """Name of a graph's input; a graph has it where fewer than all integers of a byte are used."""
    return f'top of {layer}'


def ceiling_of(layer: str) -> str:
    """Name of a graph's input, instead of ``top_of`` where values are clipped before they are rounded."""
    return f'ceiling of {layer}'


def inputs_of(grids: Grids) -> dict[str, np.ndarray]:
    """The numbers of many layers by the names of inputs; a graph takes those that it has."""
    return {name: value for layer, grid in grids.items() for name, value in grid.inputs(layer).items()}
