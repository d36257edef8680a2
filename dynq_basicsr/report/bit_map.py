"""A bit map: an image with every patch tinted by its bits, and a chart of the bits of every layer (AdaBM Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import IO, TYPE_CHECKING

import cv2
import numpy as np

from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.quantization.usage import BitUsage
from dynq_basicsr.report.layer_charts import INK, MANY_LAYERS, bit_colours, chart_size, draw_layers
from dynq_basicsr.report.sheet import Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARGIN, HEADER, LEGEND = 24, 60, 66  # around panels; above each, for its title; below the image, for the colour bar
PANEL = (1280, 860)  # the image is enlarged by a whole number as long as it stays within this width and height
LEAST_PATCH = 24  # LR pixels; where patches show how bits vary
TINT = 0.5  # share of the tint in a pixel
Box = tuple[int, int, int, int]  # top, left, bottom, right in LR pixels


def enlargement(height: int, width: int) -> int:
    """Whole factor by which an image of this size is enlarged, at least 1."""
    return max(1, min(PANEL[0] // width, PANEL[1] // height))


def telling_patch(height: int, width: int, tiling: TilingOptions) -> int:
    """Side of patches that are small enough for an image to hold several, no larger than a network's own.

    Args:
        height: Of the LR image, pixels.
        width: Likewise.
        tiling: The network's; its patches may be whole images.
    """
    side = max(LEAST_PATCH, min(height, width) // 4)
    return side if tiling.patch_size is None else min(tiling.patch_size, side)


def cells(boxes: Sequence[Box]) -> list[Box]:
    """Share out an image among patches that may overlap: every overlap is split in the middle.

    Args:
        boxes: A grid of patches as (top, left, bottom, right).

    Returns:
        One box a patch, in the same order; together they cover the image once.
    """

    def split(spans: set[tuple[int, int]]) -> dict[tuple[int, int], tuple[int, int]]:
        ordered = sorted(spans)
        middles = [(end + start) // 2 for (_, end), (start, _) in zip(ordered, ordered[1:], strict=False)]
        edges = [ordered[0][0], *middles, ordered[-1][1]]
        return dict(zip(ordered, zip(edges, edges[1:], strict=False), strict=True))

    rows = split({(top, bottom) for top, _, bottom, _ in boxes})
    columns = split({(left, right) for _, left, _, right in boxes})
    parts = [(rows[top, bottom], columns[left, right]) for top, left, bottom, right in boxes]
    return [(top, left, bottom, right) for (top, bottom), (left, right) in parts]


def tint_patches(lq: np.ndarray, usage: BitUsage) -> np.ndarray:
    """Mix the half greyed image with the colour of each patch's mean bits; overlaps are split in the middle.

    Args:
        lq: (H, W, 3) uint8, BGR.
        usage: Bits of its patches.

    Returns:
        (H, W, 3) uint8, BGR; the image itself for a float network.
    """
    if not usage.bits:
        return lq
    bits = np.zeros(lq.shape[:2])
    for (top, left, bottom, right), value in zip(cells(usage.boxes), usage.patch_bits.tolist(), strict=True):
        bits[top:bottom, left:right] = value
    # Half grey: the photograph stays recognisable, but its own colours are not mistaken for bits.
    half_grey = (lq + lq.mean(axis=2, keepdims=True)) / 2
    colours = 255 * bit_colours(bits)[..., ::-1]
    return np.rint((1 - TINT) * half_grey + TINT * colours).astype(np.uint8)


def save_bit_map(lq: np.ndarray, usage: BitUsage, path: str | PathLike[str] | IO[bytes]) -> None:
    """Save a picture of the bits that an image used.

    The LR image is enlarged without interpolation; each patch is tinted, outlined and labelled with its mean bits over
    layers. The chart shows the mean bits of each layer over patches, weighted by area: beside the image, or below it
    for more than 40 layers.

    Args:
        lq: The LR image, (H, W, 3) uint8, BGR.
        usage: What it used; that of a float network gives the plain image and a sentence.
        path: PNG file to write, whose folder is made, or a stream.
    """
    height, width = lq.shape[:2]
    factor = enlargement(height, width)
    panel = (factor * width, factor * height)
    # Pictures of large images are looked at from further away: everything but the image grows with them.
    unit = max(1.0, max(panel) / 1400)
    margin, header, legend = (round(unit * length) for length in (MARGIN, HEADER, LEGEND))
    layers = usage.layer_bits
    chart = chart_size(len(layers), panel, unit)
    if not layers:
        size = (2 * margin + max(panel[0], round(400 * unit)), header + panel[1] + margin)
    elif len(layers) > MANY_LAYERS:
        chart_corner = (margin, header + panel[1] + legend + header)
        size = (2 * margin + max(panel[0], chart[0]), chart_corner[1] + chart[1] + 2 * margin)
    else:
        chart_corner = (2 * margin + panel[0], header)
        size = (3 * margin + panel[0] + chart[0], header + max(panel[1] + legend, chart[1] + margin))
    sheet = Sheet(size, unit)
    _draw_image(sheet, (margin, header), panel, lq, usage)
    if layers:
        draw_layers(sheet, chart_corner, chart, layers)
    sheet.save(path)


def _draw_image(sheet: Sheet, corner: tuple[int, int], panel: tuple[int, int], lq: np.ndarray, usage: BitUsage) -> None:
    pixels = cv2.resize(tint_patches(lq, usage), panel, interpolation=cv2.INTER_NEAREST)
    axes = sheet.picture(corner, pixels)
    if not usage.bits:
        sheet.title(corner, 'Bits of each patch', 'This network is float: every layer computes with 32 bits.')
        return
    bits = usage.patch_bits.numpy()
    kind = 'patches' if cells(usage.boxes) == usage.boxes else 'overlapping patches'
    patches = 'one patch' if len(bits) == 1 else f'{len(bits)} {kind}, {bits.min():.2f} to {bits.max():.2f}'
    sheet.title(corner, 'Bits of each patch', f'mean over layers; {patches}, FAB {usage.fab():.2f}')
    for box, value in zip(cells(usage.boxes), bits, strict=True):
        _draw_patch(axes, box, value, panel[0] // lq.shape[1], sheet.unit)
    below = corner[1] + panel[1] + round(16 * sheet.unit)
    _draw_legend(sheet, (corner[0], below), min(panel[0], round(420 * sheet.unit)))


def _draw_patch(axes: Axes, box: Box, bits: float, factor: int, unit: float) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    top, left, bottom, right = (factor * edge for edge in box)
    # A coloured line inside a white one: visible on bright and dark photographs alike.
    for inset, colour in ((0.0, 'white'), (1.5 * unit, bit_colours(np.array(bits)))):
        axes.add_patch(
            Rectangle(
                (left + inset, top + inset), right - left - 2 * inset, bottom - top - 2 * inset,
                fill=False, edgecolor=colour, linewidth=1.3,
            )
        )  # fmt: skip
    side = min(right - left, bottom - top) / unit
    if side >= 34:  # a smaller patch has no room for a number
        axes.text(
            (left + right) / 2, (top + bottom) / 2, f'{bits:.2f}', color='white', weight='bold',
            ha='center', va='center', fontsize=float(np.clip(side / 10, 8, 16)),
            path_effects=[withStroke(linewidth=2.5, foreground=INK)],
        )  # fmt: skip


def _draw_legend(sheet: Sheet, corner: tuple[int, int], width: int) -> None:
    axes = sheet.axes(corner, (width, round(12 * sheet.unit)))
    bits = np.arange(2, 9)
    axes.imshow(bit_colours(np.linspace(bits[0], bits[-1], 256))[None], extent=(bits[0], bits[-1], 0, 1), aspect='auto')
    axes.set(xticks=bits, xticklabels=[*map(str, bits[:-1]), f'{bits[-1]} bits'], yticks=[])
    axes.tick_params(labelsize=9, pad=3)
