"""The section of a picture in the HTML report: results to wipe between, its bit map, its largest differences."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from dynq_basicsr.report.html_charts import bit_legend, bit_overlay
from dynq_basicsr.report.html_compare import (
    BICUBIC,
    FLOAT,
    QUANTIZED,
    TRUTH,
    WAYS,
    Compared,
    largest_differences,
    psnr,
)
from dynq_basicsr.report.html_images import GAIN, amplified_difference, embed, embed_alike
from dynq_basicsr.report.html_tables import decibels, figures_table
from dynq_basicsr.report.templates import template

CROP = 96  # side of a crop, pixels of the result
SIDES = {BICUBIC: 'left', QUANTIZED: 'right'}  # what is where when the page opens


def picture_section(picture: Compared, number: int, room: float, crops: int) -> tuple[str, str]:
    """Lay out a section.

    Args:
        picture: What to show.
        number: Of the picture, from 1.
        room: Characters for its results, without crops.
        crops: How many there are at most.

    Returns:
        HTML, and how the results are encoded.
    """
    uris, encoding = embed_alike(picture.results, room)
    height, width = picture.results[FLOAT].shape[:2]
    name = escape(picture.name)
    images = [
        f'<img src="{uri}" alt="{name}, {way}" width="{width}" height="{height}" data-way="{way}" draggable="false"'
        + (f' data-side="{SIDES[way]}">' if way in SIDES else '>')
        for way, uri in uris.items()
    ]
    section = template('picture.html').substitute(
        number=number,
        name=name,
        facts=_facts(picture),
        ratio=f'{width / height:.6g}',
        images='\n'.join(images),
        overlay=bit_overlay(picture.usage, picture.name),
        left=_choices(uris, BICUBIC),
        right=_choices(uris, QUANTIZED),
        legend=bit_legend(),
        table=figures_table([picture]),
        crops=_crops(picture, crops),
    )
    return section, encoding


def _facts(picture: Compared) -> str:
    usage = picture.usage
    whole, part = (f'{width} × {height}' for height, width in (picture.whole, (usage.height, usage.width)))
    size = part if whole == part else f'the middle {part} of {whole}'
    bits = usage.patch_bits
    patches = 'one patch' if len(bits) == 1 else f'{len(bits)} patches'
    span = f'{bits.min():.2f} to {bits.max():.2f}' if bits.max() > bits.min() else f'{bits[0]:.2f}'
    return f'Low resolution: {size} pixels, {patches} of {span} bits.'


def _choices(ways: Iterable[str], chosen: str) -> str:
    return ''.join(f'<option{" selected" if way == chosen else ""}>{way}</option>' for way in ways)


def _crops(picture: Compared, count: int) -> str:
    items = []
    for box in largest_differences(picture.results[QUANTIZED], picture.results[FLOAT], CROP, count):
        top, left, bottom, right = box
        parts = {way: image[top:bottom, left:right] for way, image in picture.results.items()}
        strip = []
        for way in (*WAYS, TRUTH):
            if way in parts:
                near = '' if way == FLOAT else f' <small>{decibels(psnr(parts[way], parts[FLOAT]))}</small>'
                strip.append(_crop(parts[way], f'{picture.name}, {way}, part', f'{way}{near}'))
        difference = amplified_difference(parts[QUANTIZED], parts[FLOAT])
        words = f'difference <small>× {GAIN}</small>'
        strip.append(_crop(difference, f'{picture.name}, difference of quantized and float, part', words))
        place = f'{right - left} × {bottom - top} pixels at {left}, {top}; PSNR against float'
        figure = f'<figure><div class="strip">{"".join(strip)}</div><figcaption>{place}</figcaption></figure>'
        items.append(f'<li>{figure}</li>')
    return f'<ul class="crops">{"".join(items)}</ul>'


def _crop(image: np.ndarray, alt: str, words: str) -> str:
    height, width = image.shape[:2]
    size = f'width="{width}" height="{height}"'
    return f'<div><img src="{embed(image)}" alt="{escape(alt)}" {size}><span>{words}</span></div>'
