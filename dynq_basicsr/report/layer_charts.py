"""Charts of the bits of each layer, for a handful of layers and for hundreds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from dynq_basicsr.report.sheet import INK, QUIET, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_LAYERS = 40  # more become columns grouped by block, without a name for each
_MOST_GROUPS = 24
_SCALE = 22  # room for the numbers beside the columns
# 2 to 8 bits, the same in every picture so that pictures compare; hues far enough apart to tell one bit from the next.
_STOPS = ('3d4aa8', '3a8ee6', '1fb5a3', '83bf4f', 'f2c037', 'ef7f35', 'cf2f3a')
_PALETTE = np.array([[int(stop[i : i + 2], 16) / 255 for i in (0, 2, 4)] for stop in _STOPS])


def bit_colours(bits: np.ndarray) -> np.ndarray:
    """Colours of bit-widths, from blue at 2 over green at 5 to red at 8, clipped beyond.

    Args:
        bits: Any shape.

    Returns:
        RGB in [0, 1], with one more axis of 3.
    """
    stops = np.arange(2, 2 + len(_PALETTE))
    return np.stack([np.interp(bits, stops, channel) for channel in _PALETTE.T], axis=-1)


def chart_size(layers: int, panel: tuple[int, int], unit: float) -> tuple[int, int]:
    """(width, height) of the chart in pixels.

    Args:
        layers: How many layers it shows.
        panel: (width, height) of the image that it belongs to, pixels.
        unit: See ``Sheet``.
    """
    if layers > MANY_LAYERS:
        # Columns of whole pixels; else some look wider than others.
        column = max(1, round(max(panel[0], 800) / layers))
        return column * layers + round(_SCALE * unit), round(230 * unit)
    return round(430 * unit), max(panel[1], round(17 * unit * layers))


def draw_layers(sheet: Sheet, corner: tuple[int, int], size: tuple[int, int], layers: Mapping[str, float]) -> None:
    """Draw the chart: named bars for up to 40 layers, columns grouped by block for more.

    Args:
        sheet: Where to.
        corner: (left, top) of the chart, pixels; its title stands above.
        size: See ``chart_size``.
        layers: Layer name -> mean bits, in the order of the network.
    """
    values = np.array(list(layers.values()))
    span = f'{values.min():.2f} to {values.max():.2f}, mean {values.mean():.2f}'
    sheet.title(corner, 'Bits of each layer', f'mean over the image; {len(values)} layers, {span}')
    draw = _draw_columns if len(values) > MANY_LAYERS else _draw_bars
    draw(sheet, corner, size, list(layers), values)


def _draw_bars(
    sheet: Sheet, corner: tuple[int, int], size: tuple[int, int], names: list[str], values: np.ndarray
) -> None:
    unit = sheet.unit
    font = 8.5 if size[1] / len(values) < 24 * unit else 9.5
    letters = max(map(len, names))
    left = min(round(0.95 * font * letters * unit) + 8, size[0] // 2)
    figures = round(46 * unit)
    axes = sheet.axes((corner[0] + left, corner[1]), (size[0] - left - figures, size[1]))
    rows = np.arange(len(values))
    axes.barh(rows, values, height=0.74, color=bit_colours(values))
    axes.axvline(values.mean(), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(yticks=rows, yticklabels=names, xticks=[], xlim=(0, values.max()), ylim=(len(values) - 0.5, -0.5))
    axes.tick_params(labelsize=font)
    for row, value in zip(rows, values, strict=True):
        axes.annotate(
            f'{value:.2f}', (1, row), (8, 0), xycoords=('axes fraction', 'data'), textcoords='offset points',
            va='center', fontsize=font, color=INK,
        )  # fmt: skip


def _draw_columns(
    sheet: Sheet, corner: tuple[int, int], size: tuple[int, int], names: list[str], values: np.ndarray
) -> None:
    left = round(_SCALE * sheet.unit)
    axes = sheet.axes((corner[0] + left, corner[1]), (size[0] - left, size[1]))
    column = (size[0] - left) // len(values)
    axes.bar(np.arange(len(values)), values, width=1 - 1 / column if column >= 4 else 1, color=bit_colours(values))
    axes.axhline(values.mean(), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(0, values.max() * 1.04))
    axes.set_yticks(range(0, int(values.max()) + 1, 1 if values.max() <= 8 else 8))
    axes.yaxis.grid(True, color=QUIET, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    _name_groups(axes, names)


def group_starts(names: list[str]) -> dict[int, str]:
    """Split a long list of layers into blocks that a chart has room to name.

    Args:
        names: Dotted names, in order.

    Returns:
        Index of each block's first layer -> the shortest name of the block; empty where no number of leading parts
        gives 2 to 24 blocks.
    """
    best: dict[int, str] = {}
    for depth in range(1, max(name.count('.') for name in names) + 1):
        blocks = ['.'.join(name.split('.')[:depth]) for name in names]
        starts = {index: block for index, block in enumerate(blocks) if not index or block != blocks[index - 1]}
        if max(1, len(best)) < len(starts) <= _MOST_GROUPS:
            best = starts
    return best


def _name_groups(axes: Axes, names: list[str]) -> None:
    starts = group_starts(names)
    if not starts:
        ticks = np.linspace(0, len(names) - 1, 6).round().astype(int)
        axes.set(xticks=ticks, xticklabels=[names[tick] for tick in ticks])
        return
    edges = [*starts, len(names)]
    axes.set_xticks([(first + last - 1) / 2 for first, last in zip(edges, edges[1:], strict=False)], starts.values())
    axes.tick_params(axis='x', labelsize=9 if len(starts) <= 14 else 7.5)
    for edge in edges[1:-1]:
        axes.axvline(edge - 0.5, ymin=-0.09, ymax=0, color=QUIET, linewidth=0.8, clip_on=False)
