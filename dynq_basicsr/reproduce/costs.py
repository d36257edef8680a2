"""What networks of a table cost: size and BitOPs, by the package's own account."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import cv2

from dynq_basicsr.errors import DynqError

SCALE = 4
FULL_HD = 1920 * 1080 / SCALE**2  # input pixels
UNEXPLAINED = 'no formula gives the paper\'s BitOPs'


def prepare() -> None:
    """Register BasicSR's architectures and ours, and keep them from talking."""
    import basicsr  # noqa: F401  (fills the registries)
    from basicsr.utils import get_root_logger

    from dynq_basicsr.plugin import register

    get_root_logger(log_level=logging.WARNING)
    register()


def measure(network: Mapping, mean_bits: float, urban: float | None) -> tuple[float, float, float | None]:
    """Size and BitOPs of a network.

    Args:
        network: Its options; float, or of type ``QuantizedSR``.
        mean_bits: Of the activations of the layers that have the base bits; others keep theirs.
        urban: Input pixels of the mean image of Urban100, if known.

    Returns:
        Thousands of 32-bit parameters; 10^12 BitOPs of a 1920 x 1080 result, and of the mean image of Urban100.
    """
    from basicsr.archs import build_network

    from dynq_basicsr.quantization.cost import measure_cost, model_size

    net, layer_bits = build_network(dict(network)), {}
    if network['type'] == 'QuantizedSR':
        base = network['quantization']['activation']['bits']
        own = {layer.name: layer.options.activation.bits for layer in net.quant_layers()}
        layer_bits = {name: mean_bits if bits == base else bits for name, bits in own.items()}
    cost = measure_cost(net)
    hd, on_urban = (sum(cost.bitops(pixels, layer_bits)) / 1e12 for pixels in (FULL_HD, urban or 0))
    return model_size(net) / 1e3, hd, None if urban is None else on_urban


def mean_pixels(folder: Path) -> float | None:
    """Mean pixels of the images in a folder; None if it is not there.

    Raises:
        DynqError: If a file is not an image.
    """
    if not folder.is_dir():
        return None
    areas = []
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path))
        if image is None:
            raise DynqError(f'{path}: not an image; remove it.')
        areas.append(image.shape[0] * image.shape[1])
    return sum(areas) / len(areas) if areas else None


def number(value: float | None, unit: str = '', decimals: int = 1) -> str:
    """A figure as a table shows it; a dash where there is none."""
    return '-' if value is None else f'{value:.{decimals}f}{unit}'
