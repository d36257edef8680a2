"""Charts of the HTML report as inline SVG, coloured by the page's style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from dynq_basicsr.quantization.usage import BitUsage
from dynq_basicsr.report.bit_map import cells
from dynq_basicsr.report.layer_charts import bit_colours, group_starts

WIDTH, HEIGHT = 860, 300  # of a chart, units
_LEFT, _RIGHT, _TOP = 46, 12, 14  # margins
_LETTER = 6.6  # width of one at the size of labels
_SLANT = 0.64  # sine of 40 degrees, at which names stand that have no room
_TICKS = (1, 2, 2.5, 5, 10)


def bit_overlay(usage: BitUsage, name: str) -> str:
    """Patches of an image tinted by their mean bits, over an image of any size.

    Args:
        usage: Bits of its patches.
        name: Of the picture.
    """
    values = usage.patch_bits.tolist()
    parts = [_svg(usage.width, usage.height, f'Bits of {_patches(len(values))} of {name}, '
                  f'{min(values):.2f} to {max(values):.2f}', preserveAspectRatio='none')]  # fmt: skip
    boxes = cells(usage.boxes)
    size = min(min(bottom - top, (right - left) / 1.6) for top, left, bottom, right in boxes) / 3.6
    for (top, left, bottom, right), value in zip(boxes, values, strict=True):
        place = f'x="{left}" y="{top}" width="{right - left}" height="{bottom - top}"'
        parts.append(f'<rect {place} fill="{_colour(value)}"><title>{value:.2f} bits</title></rect>')
        parts.append(_text((left + right) / 2, (top + bottom) / 2, f'{value:.2f}', 'middle', f'font-size="{size:.1f}"'))
    return ''.join([*parts, '</svg>'])


def layer_chart(bits: Mapping[str, tuple[float, float, float]]) -> str:
    """A column for each layer, with a line from the least to the most bits that a patch used.

    Args:
        bits: Layer -> mean, least and most bits, in the order of the network.
    """
    names, values = list(bits), np.array(list(bits.values()))
    starts = group_starts(names) or {index: name for index, name in enumerate(names) if len(names) <= 24}
    starts = starts or {0: names[0], len(names) - 1: names[-1]}
    edges = [*starts, len(names)]
    column = (WIDTH - _LEFT - _RIGHT) / len(names)
    longest = _LETTER * max(map(len, starts.values()))
    slanted = longest > column * min(np.diff(edges)) - 6
    bottom = HEIGHT - _TOP
    height = round(HEIGHT + (_SLANT * longest + 14 if slanted else 18))
    most = max(8.0, float(values.max()))
    words = f'Bits of {len(names)} layers: means from {values[:, 0].min():.2f} to {values[:, 0].max():.2f}'
    parts = [_svg(WIDTH, height, words)]
    step = 1 if most <= 8 else 8
    parts += _grid_lines([(bits, f'{bits:g}') for bits in np.arange(0, most + 0.1, step)], most, bottom, 'bits')

    def down(value: float) -> float:
        return bottom - (bottom - _TOP) * value / most

    gap = 0.16 * column if column >= 4 else 0
    for index, (name, (mean, least, largest)) in enumerate(zip(names, values, strict=True)):
        left, middle = _LEFT + column * index, _LEFT + column * (index + 0.5)
        place = f'x="{left + gap / 2:.2f}" y="{down(mean):.2f}"'
        size = f'width="{column - gap:.2f}" height="{bottom - down(mean):.2f}"'
        title = f'{name}: {mean:.2f} bits, patches {least:g} to {largest:g}'
        parts.append(f'<rect {place} {size} fill="{_colour(mean)}"><title>{escape(title)}</title></rect>')
        if largest > least and column >= 4:
            line = f'x1="{middle:.2f}" x2="{middle:.2f}" y1="{down(least):.2f}" y2="{down(largest):.2f}"'
            parts.append(f'<line class="span" {line}/>')
    for (first, name), last in zip(starts.items(), edges[1:], strict=True):
        middle = _LEFT + column * (first + last) / 2
        if slanted:
            parts.append(_text(middle + 4, bottom + 14, name, 'end', angle=-40))
        else:
            parts.append(_text(middle, bottom + 20, name, 'middle'))
    return ''.join([*parts, '</svg>'])


def scatter(bits: Sequence[float], errors: Sequence[float], names: Sequence[str]) -> str:
    """A dot for each patch.

    Args:
        bits: Its mean bits.
        errors: Root mean square of its error, 0..255.
        names: The picture that it is of.
    """
    bottom, height = HEIGHT - _TOP, HEIGHT + 38
    least, most = np.floor(min(bits) * 2 - 0.2) / 2, np.ceil(max(bits) * 2 + 0.2) / 2
    step = _step(max(errors) / 4)
    top = step * max(1, np.ceil(max(errors) / step))
    words = f'Error against bits of {_patches(len(bits))}: {min(bits):.2f} to {max(bits):.2f} bits, errors of '
    parts = [_svg(WIDTH, height, f'{words}{min(errors):.2f} to {max(errors):.2f} grey levels')]
    parts += _grid_lines([(value, f'{value:g}') for value in np.arange(0, top + step / 2, step)], top, bottom, 'error')
    wide = WIDTH - _LEFT - _RIGHT

    def across(value: float) -> float:
        return _LEFT + wide * (value - least) / (most - least)

    apart = _step((most - least) / 8)
    for value in np.arange(np.ceil(least / apart) * apart, most + apart / 2, apart):
        if value <= most:
            parts.append(_text(across(value), bottom + 20, f'{round(value, 6):g}', 'middle'))
    parts.append(_text(_LEFT + wide / 2, bottom + 42, 'mean bits', 'middle', 'class="axis"'))
    for bit, error, name in zip(bits, errors, names, strict=True):
        place = f'cx="{across(bit):.1f}" cy="{bottom - (bottom - _TOP) * error / top:.1f}"'
        title = f'{escape(name)}: {bit:.2f} bits, error {error:.2f}'
        parts.append(f'<circle {place} r="4.5" fill="{_colour(bit)}"><title>{title}</title></circle>')
    return ''.join([*parts, '</svg>'])


def bit_legend() -> str:
    """The colours of 2 to 8 bits, with their numbers."""
    return ''.join(f'<span style="--bit:{_colour(bits)}">{bits}</span>' for bits in range(2, 9))


def _patches(count: int) -> str:
    return f'{count} patch{"" if count == 1 else "es"}'


def _colour(bits: float) -> str:
    return '#' + ''.join(f'{round(255 * part):02x}' for part in bit_colours(np.array(bits)))


def _step(least: float) -> float:
    """The next round number."""
    if least <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(least))
    return float(next(power * part for part in _TICKS if power * part >= least * 0.999))


def _svg(width: float, height: float, words: str, **more: str) -> str:
    given = ''.join(f' {key}="{value}"' for key, value in more.items())
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(words)}"{given}>'


def _grid_lines(ticks: Sequence[tuple[float, str]], most: float, bottom: float, unit: str) -> list[str]:
    parts = []
    for value, words in ticks:
        y = bottom - (bottom - _TOP) * value / most
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4, words, 'end'))
    return [*parts, _text(12, (bottom + _TOP) / 2, unit, 'middle', 'class="axis"', angle=-90)]


def _text(x: float, y: float, words: str, anchor: str, more: str = '', angle: float = 0) -> str:
    place = f'transform="translate({x:.1f} {y:.1f}) rotate({angle})"' if angle else f'x="{x:.1f}" y="{y:.1f}"'
    return f'<text {place} text-anchor="{anchor}"{" " if more else ""}{more}>{escape(words)}</text>'
