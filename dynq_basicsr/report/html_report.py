"""The HTML report: one file that any browser shows without a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from dynq_basicsr import __version__
from dynq_basicsr.report.html_charts import layer_chart, scatter
from dynq_basicsr.report.html_compare import FLOAT, QUANTIZED, SIDE, TRUTH, Compared
from dynq_basicsr.report.html_images import LOSSLESS
from dynq_basicsr.report.html_picture import picture_section
from dynq_basicsr.report.html_tables import figures_table, table
from dynq_basicsr.report.templates import template, text

if TYPE_CHECKING:
    from dynq_basicsr.archs.quantized_arch import QuantizedSR

ROOM = 6.5e6  # characters for the pictures of one report, all together; crops, half of that at most, come on top
CROPS = 18  # of one report, about; a picture has 3 at most


@dataclass(frozen=True)
class Setting:
    """What was compared.

    Attributes:
        network: The quantized network.
        patch: Side of the patches that bits were chosen for, LR pixels.
        sizes: ``FLOAT`` and ``QUANTIZED`` -> bytes on disk; a size that nobody knows is left out.
        runtimes: ``FLOAT`` and ``QUANTIZED`` -> what ran it.
        choice: Which pictures these are, a sentence.
    """

    network: QuantizedSR
    patch: int
    sizes: Mapping[str, int]
    runtimes: Mapping[str, str]
    choice: str

    @property
    def title(self) -> str:
        """The network in a line."""
        description, options = self.network.description, self.network.quantization
        kind, policy = type(self.network.backbone).__name__, description['policy']['type']
        return f'{kind} ×{self.network.scale}, W{options.weight.bits}A{options.activation.bits}, {policy}'


def html_report(pictures: Sequence[Compared], setting: Setting) -> str:
    """Lay out a report.

    Args:
        pictures: At least one.
        setting: What was compared.

    Returns:
        The whole file.
    """
    count = len(pictures)
    crops = min(3, max(1, CROPS // count))
    made = [picture_section(one, number, ROOM / count, crops) for number, one in enumerate(pictures, 1)]
    bits = [float(bit) for one in pictures for bit in one.usage.patch_bits]
    errors = [float(error) for one in pictures for error in one.patch_errors()]
    layers = _layer_bits(pictures)
    links = {f'picture-{number}': one.name for number, one in enumerate(pictures, 1)}
    links |= {'layers': 'Layers', 'patches': 'Patches', 'notes': 'Notes'}
    return template('report.html').substitute(
        version=escape(__version__),
        title=escape(setting.title),
        lead=escape(_lead(pictures)),
        links=''.join(f'<li><a href="#{place}">{escape(words)}</a></li>' for place, words in links.items()),
        summary=figures_table(pictures, setting.sizes, _summary_words(pictures)),
        pictures='\n'.join(section for section, _ in made),
        layers=layer_chart(layers) if layers else '<p>No layer adapts its bits.</p>',
        layers_table=table(
            ['layer', 'mean', 'least', 'most'],
            [[name, *(f'{value:.2f}' for value in values)] for name, values in layers.items()],
        ),
        scatter=scatter(bits, errors, [one.name for one in pictures for _ in one.usage.boxes]),
        scatter_words=_scatter_words(bits, errors),
        notes=''.join(f'<li>{escape(note)}</li>' for note in _notes(setting, {encoding for _, encoding in made})),
        style=text('report.css'),
        script=text('report.js'),
    )


def _lead(pictures: Sequence[Compared]) -> str:
    bits = np.mean([one.usage.fab() for one in pictures])
    near = np.mean([one.psnr(QUANTIZED, FLOAT) for one in pictures])
    quantized, full = (np.mean([one.bitops(way) for one in pictures]) for way in (QUANTIZED, FLOAT))
    where = 'one picture' if len(pictures) == 1 else f'{len(pictures)} pictures'
    close = 'equal to' if math.isinf(near) else f'with a PSNR of {near:.2f} dB against'
    share = f'{100 * quantized / full:.0f}\N{NO-BREAK SPACE}% of the BitOPs'
    return f'{bits:.2f} bits on average over {where}, {close} the float network’s results, {share}.'


def _summary_words(pictures: Sequence[Compared]) -> str:
    known = sum(TRUTH in one.results for one in pictures)
    some = f' There is ground truth of {known} of {len(pictures)}.' if 0 < known < len(pictures) else ''
    return f'Means over the pictures below.{some}'


def _layer_bits(pictures: Sequence[Compared]) -> dict[str, tuple[float, float, float]]:
    """Layer -> mean, least and most bits over the patches of all pictures."""
    names = pictures[0].usage.bits
    values = {name: np.concatenate([one.usage.bits[name].numpy() for one in pictures]) for name in names}
    return {name: (float(bits.mean()), float(bits.min()), float(bits.max())) for name, bits in values.items()}


def _scatter_words(bits: Sequence[float], errors: Sequence[float]) -> str:
    words = (
        f'Each dot is one of {len(bits)} patches: its mean bits over layers, and how far its quantized result is from '
        'the float one (root mean square, of 255 grey levels).'
    )
    if len(bits) > 2 and np.std(bits) > 1e-6 and np.std(errors) > 1e-6:
        words += f' Correlation {np.corrcoef(bits, errors)[0, 1]:.2f}.'
    return words


def _notes(setting: Setting, encodings: set[str]) -> list[str]:
    how = 'Both networks ran in PyTorch, which simulates integers: seconds say nothing about integer hardware.'
    if setting.runtimes[QUANTIZED] != setting.runtimes[FLOAT]:
        how = f'The float network ran in {setting.runtimes[FLOAT]}, the quantized one in {setting.runtimes[QUANTIZED]}.'
    stored = 'Pictures and crops are stored without loss.'
    if lossy := encodings - {LOSSLESS}:
        lossy = ' or '.join(sorted(lossy))
        stored = f'Pictures are stored as {lossy}, crops without loss; numbers come from the pixels themselves.'
    return [
        setting.choice,
        f'Both networks ran in patches of {setting.patch} LR pixels; results, bits, errors and seconds are of the same '
        f'runs. Of pictures whose result has sides above {SIDE} pixels, the middle is taken.',
        'PSNR against float compares all RGB values. PSNR against ground truth compares luma and leaves out a border '
        'as wide as the enlargement, as papers do. Where patches are small, their borders cost both networks a little.',
        'Mean bits: of the activations of adaptive layers, over layers, then patches. BitOPs: 2 · MACs · weight bits · '
        'activation bits, 32 · 32 for what is float, for an output of 1920 × 1080 at a picture’s bits.',
        how,
        stored,
    ]
