"""Bit maps: one image with every patch tinted by its bits, and a chart of the bits of every layer (AdaBM Fig. 4).

``python -m dynq_basicsr.report.bitmaps -opt options/test_X.yml --image LR.png --out bits.png`` draws one for any LR image.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from dynq_basicsr.quantization.usage import BitUsage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 100
MARGIN = 24  # pixels around and between panels
HEADER = 60  # pixels above the image, for its two lines of title
LEGEND = 64  # pixels below the image, for the colour bar
PANEL = (960, 720)  # the image is enlarged by a whole number as long as it stays within this width and height
MANY_LAYERS = 40  # above, the chart lies below the image and names only some layers
LOWEST, HIGHEST = 2, 8  # ends of the colour scale, bits; the same in every picture, so that pictures compare
TINT = 0.45  # share of the tint in a pixel
INK, QUIET, PAPER = '#1c2430', '#66707c', '#ffffff'


def bit_colours(bits: np.ndarray) -> np.ndarray:
    """Colours of bit-widths, blue at 2 to red at 8, clipped beyond.

    Args:
        bits: Any shape.

    Returns:
        RGB in [0, 1], one more axis of 3.
    """
    from matplotlib import colormaps

    position = (np.clip(bits, LOWEST, HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return colormaps['turbo'](0.07 + 0.85 * position)[..., :3]


def enlargement(height: int, width: int) -> int:
    """Whole factor by which an image of this size is enlarged, at least 1."""
    return max(1, min(PANEL[0] // width, PANEL[1] // height))


def tinted(lq: np.ndarray, usage: BitUsage) -> np.ndarray:
    """Mix the greyed image with the colour of each patch's mean bits; where patches overlap, with their mean.

    Args:
        lq: (H, W, 3) uint8, BGR.
        usage: Bits of its patches.

    Returns:
        (H, W, 3) in [0, 1], RGB; the untouched image for a float network.
    """
    image = lq[..., ::-1].astype(np.float64) / 255
    if not usage.bits:
        return image
    total, count = np.zeros(lq.shape[:2]), np.zeros(lq.shape[:2])
    for (top, left, bottom, right), bits in zip(usage.boxes, usage.patch_bits.tolist(), strict=True):
        total[top:bottom, left:right] += bits
        count[top:bottom, left:right] += 1
    # Half grey: the photograph stays recognisable, but its own colours are not mistaken for bits.
    grey = image.mean(axis=2, keepdims=True)
    return (1 - TINT) * (image + grey) / 2 + TINT * bit_colours(total / np.maximum(count, 1))


def save_bit_map(lq: np.ndarray, usage: BitUsage, path: str | Path) -> None:
    """Save a picture of the bits that an image used.

    The LR image is enlarged without interpolation; each patch is tinted, outlined and labelled with its mean bits over
    layers. The chart shows the mean bits of each layer over patches, weighted by area.

    Args:
        lq: The LR image, (H, W, 3) uint8, BGR.
        usage: What it used; that of a float network gives the plain image and a sentence.
        path: PNG file to write; its folder is made.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = lq.shape[:2]
    factor = enlargement(height, width)
    panel = (factor * width, factor * height)
    # Pictures of large images are looked at from further away.
    text = max(1.0, max(panel) / 1400)
    layers = usage.layer_bits
    below = len(layers) > MANY_LAYERS
    chart = _chart_size(len(layers), panel, text)
    if below:
        size = (2 * MARGIN + max(panel[0], chart[0]), HEADER + panel[1] + LEGEND + HEADER + chart[1] + 2 * MARGIN)
        corner = (MARGIN, size[1] - MARGIN - chart[1])
    else:
        size = (3 * MARGIN + panel[0] + chart[0], HEADER + max(panel[1] + LEGEND, chart[1] + MARGIN))
        corner = (2 * MARGIN + panel[0], HEADER)
    figure = Figure(figsize=(size[0] / DPI, size[1] / DPI), dpi=DPI, facecolor=PAPER)
    FigureCanvasAgg(figure)
    _draw_image(figure, lq, usage, factor, text)
    if not layers:
        _sentence(figure, corner, chart, text)
    elif below:
        _draw_columns(_axes(figure, corner, chart), layers, text)
    else:
        _draw_bars(figure, corner, chart, layers, text)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, format='png', facecolor=PAPER)


def _chart_size(layers: int, panel: tuple[int, int], text: float) -> tuple[int, int]:
    if layers > MANY_LAYERS:
        return max(panel[0], 960), int(260 * text)
    return int(440 * text), max(panel[1], int(18 * text * layers))


def _axes(figure: Figure, corner: tuple[float, float], size: tuple[float, float], **options: object) -> Axes:
    """Axes at a place given in pixels from the top left corner, so that image pixels meet picture pixels."""
    width, height = figure.get_size_inches() * DPI
    place = (corner[0] / width, 1 - (corner[1] + size[1]) / height, size[0] / width, size[1] / height)
    axes = figure.add_axes(place, **options)
    axes.tick_params(colors=QUIET, labelcolor=INK, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _title(figure: Figure, corner: tuple[float, float], first: str, second: str, text: float) -> None:
    width, height = figure.get_size_inches() * DPI
    for rise, line, size, colour in ((32, first, 13, INK), (11, second, 9.5, QUIET)):
        place = (corner[0] / width, 1 - (corner[1] - rise) / height)
        figure.text(*place, line, fontsize=size * min(text, 1.3), color=colour, va='bottom', ha='left')


def _draw_image(figure: Figure, lq: np.ndarray, usage: BitUsage, factor: int, text: float) -> None:
    from matplotlib.patheffects import withStroke
    from matplotlib.patches import Rectangle

    height, width = lq.shape[:2]
    corner, size = (MARGIN, HEADER), (factor * width, factor * height)
    axes = _axes(figure, corner, size)
    pixels = np.rint(255 * tinted(lq, usage)).astype(np.uint8)
    enlarged = cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST)
    axes.imshow(enlarged, extent=(0, width, height, 0), interpolation='none', aspect='auto')
    axes.set(xticks=[], yticks=[])
    if not usage.bits:
        _title(figure, corner, 'Input image', f'{width} x {height} pixels', text)
        return
    bits = usage.patch_bits.numpy()
    many = 's' if len(bits) > 1 else ''
    _title(figure, corner, 'Bits of each patch', f'mean over layers; {len(bits)} patch{"e" * bool(many)}{many}, '
           f'{bits.min():.2f} to {bits.max():.2f}, FAB {usage.fab():.2f}', text)  # fmt: skip
    for box, value, colour in zip(usage.boxes, bits, bit_colours(bits), strict=True):
        top, left, bottom, right = box
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor='white', linewidth=1.2))
        inset = 1.5 / factor
        axes.add_patch(Rectangle((left + inset, top + inset), right - left - 2 * inset, bottom - top - 2 * inset,
                                 fill=False, edgecolor=colour, linewidth=1.6))  # fmt: skip
        side = factor * min(right - left, bottom - top)
        if side >= 34:
            axes.text((left + right) / 2, (top + bottom) / 2, f'{value:.2f}', color='white', weight='bold', ha='center',
                      va='center', fontsize=float(np.clip(side / 9, 8, 17)),
                      path_effects=[withStroke(linewidth=2.5, foreground=INK)])  # fmt: skip
    _draw_legend(figure, (MARGIN, HEADER + size[1] + 14), min(size[0], 420), text)


def _draw_legend(figure: Figure, corner: tuple[float, float], width: int, text: float) -> None:
    axes = _axes(figure, corner, (width, 12))
    ramp = bit_colours(np.linspace(LOWEST, HIGHEST, 256))[None]
    axes.imshow(ramp, extent=(LOWEST, HIGHEST, 0, 1), aspect='auto')
    ticks = list(range(LOWEST, HIGHEST + 1))
    axes.set(xticks=ticks, xticklabels=[*map(str, ticks[:-1]), f'{ticks[-1]} bits'], yticks=[])
    axes.tick_params(labelsize=8.5 * min(text, 1.3), pad=3)


def _draw_bars(figure: Figure, corner: tuple[int, int], size: tuple[int, int], layers: dict[str, float],
               text: float) -> None:  # fmt: skip
    values = np.array(list(layers.values()))
    mean = values.mean()
    _title(figure, corner, 'Bits of each layer', f'mean over patches; {len(values)} layers in the order of the network, '
           f'{values.min():.2f} to {values.max():.2f}', text)  # fmt: skip
    font = 8.5 * text
    names = int(0.62 * font / 72 * DPI * max(map(len, layers))) + 10
    names = min(names, size[0] // 2)
    axes = _axes(figure, (corner[0] + names, corner[1]), (size[0] - names - 40, size[1]))
    rows = np.arange(len(values))
    axes.barh(rows, values, height=0.72, color=bit_colours(values))
    axes.axvline(mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    for row, value in zip(rows, values, strict=True):
        axes.text(value + 0.08, row, f'{value:.2f}', va='center', fontsize=font, color=INK)
    axes.set(yticks=rows, yticklabels=list(layers), xlim=(0, max(HIGHEST, values.max())), ylim=(len(values) - 0.4, -0.6))
    axes.set_xticks([])
    axes.tick_params(labelsize=font)


def _draw_columns(axes: Axes, layers: dict[str, float], text: float) -> None:
    values, names = np.array(list(layers.values())), list(layers)
    columns = np.arange(len(values))
    axes.bar(columns, values, width=1.0, color=bit_colours(values))
    axes.axhline(values.mean(), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    top = max(HIGHEST, values.max())
    axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(0, top), yticks=range(0, int(top) + 1, 2))
    axes.tick_params(labelsize=8.5 * text)
    del names


def _sentence(figure: Figure, corner: tuple[int, int], size: tuple[int, int], text: float) -> None:
    axes = _axes(figure, corner, size)
    axes.set(xticks=[], yticks=[])
    axes.text(0, 1, 'This network is float:\nevery layer computes with 32 bits,\nwhatever the image.', va='top',
              fontsize=13 * text, color=INK, linespacing=1.5, transform=axes.transAxes)  # fmt: skip


if __name__ == '__main__':
    sys.exit(0)
