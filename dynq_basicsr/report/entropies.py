"""Entropies of a data set's patches, and the thresholds that turn them into bits (Granular-DQ Fig. 4).

    dynq report entropies -opt options/granular_NAME.yml --out entropies.png
    dynq report entropies -opt options/test_granular_x4.yml --set test_4 \\
        --checkpoint experiments/NAME/models/net_g_latest.pth --out entropies.png

draws the patches that training draws, or those that a test cuts the images of a data set into.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dynq_basicsr.errors import DynqError, nearest
from dynq_basicsr.report.layer_charts import bit_colours
from dynq_basicsr.report.sheet import INK, QUIET, Sheet

if TYPE_CHECKING:
    from torch import Tensor

SIZE = (900, 460)  # pixels of the chart
LEFT, TOP, RIGHT, BOTTOM = 70, 76, 30, 60  # pixels around it
BINS = 60
LABEL_DISTANCE = 70  # pixels between the middles of two labels below which the second one moves down


@dataclass(frozen=True)
class Thresholds:
    """Which entropies get which bits.

    Attributes:
        bits: Ascending.
        values: Upper ends of all but the last of them, nats.
        source: Where they come from, for the reader.
    """

    bits: tuple[int, ...]
    values: tuple[float, ...]
    source: str

    def split(self, entropies: np.ndarray) -> list[np.ndarray]:
        """The entropies (n,) that get each of the bits, as the policy decides: a threshold belongs to the lower one."""
        places = np.searchsorted(np.array(self.values), entropies)
        return [entropies[places == place] for place in range(len(self.bits))]


def draw_entropies(entropies: np.ndarray, thresholds: Thresholds, path: str | Path, title: str, what: str) -> None:
    """Save a histogram of entropies, coloured by their bits, with the thresholds and the share of each bit-width.

    Args:
        entropies: (n,), nats.
        thresholds: How they become bits.
        path: PNG file to write; its folder is made.
        title: First line above the chart.
        what: Which patches these are, for the second line.
    """
    sheet = Sheet((LEFT + SIZE[0] + RIGHT, TOP + SIZE[1] + BOTTOM))
    values = ', '.join(f'{value:.3f}' for value in thresholds.values) or 'none'
    sheet.title((LEFT, TOP - 12), title, f'{len(entropies)} {what}; thresholds {values} (nats), {thresholds.source}')
    axes = sheet.axes((LEFT, TOP), SIZE)
    # The thresholds lie inside the chart even where no patch does.
    ends = (*entropies, *thresholds.values)
    low, high = min(ends), max(ends)
    margin = 0.03 * (high - low) or 0.1
    low, high = low - margin, high + margin
    parts = thresholds.split(entropies)
    edges = np.linspace(low, high, BINS + 1)
    heights, _, _ = axes.hist(parts, bins=edges, stacked=True, color=list(bit_colours(np.array(thresholds.bits))))
    tallest = float(np.max(heights))
    axes.set(xlim=(low, high), ylim=(0, 1.3 * tallest), xlabel='entropy, nats', ylabel='patches')
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=9.5)
    axes.yaxis.grid(True, color=QUIET, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    for value in thresholds.values:
        axes.axvline(value, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    limits = (low, *thresholds.values, high)
    centres = [(start + end) / 2 for start, end in zip(limits, limits[1:], strict=False)]
    rows = _label_rows([SIZE[0] * (centre - low) / (high - low) for centre in centres])
    for centre, row, bits, part in zip(centres, rows, thresholds.bits, parts, strict=True):
        share = 100 * len(part) / len(entropies)
        axes.text(centre, (1.26 - 0.11 * row) * tallest, f'{bits} bits\n{share:.1f} %', color=INK, fontsize=9.5,
                  ha='center', va='top')  # fmt: skip
    sheet.save(path)


def _label_rows(places: Sequence[float]) -> list[int]:
    """Row of each label, 0 or 1, so that none lies over its left neighbour; places in pixels, ascending."""
    rows = [0]
    for left, right in zip(places, places[1:], strict=False):
        rows.append(1 - rows[-1] if right - left < LABEL_DISTANCE else 0)
    return rows


def choose_set(options: Mapping, option_file: str | Path, name: str | None) -> tuple[str, dict]:
    """The data set of an option file that is meant.

    Args:
        options: What the file holds.
        option_file: The file, for errors.
        name: Key in ``datasets``; None: ``train`` where there is one, else the first.

    Returns:
        Its key and its options, with ``phase`` and ``scale`` as BasicSR adds them.

    Raises:
        DynqError: If there is no such set.
    """
    sets = options.get('datasets')
    if not isinstance(sets, Mapping) or not sets:
        raise DynqError(f'{option_file}: the section datasets is missing; give an option file with a data set.')
    key = name or ('train' if 'train' in sets else next(iter(sets)))
    if key not in sets:
        raise DynqError(f'--set {key}: {option_file} has no such data set.{nearest(key, sets)}')
    phase = key.split('_')[0]
    return key, {'name': key, **sets[key], 'phase': phase, 'scale': options.get('scale', 1)}


def cut_patches(dataset: Mapping, val: Mapping) -> Iterator[Tensor]:
    """The LR patches that a test cuts a data set into, image by image, (1, C, h, w) in [0, 1].

    Args:
        dataset: BasicSR's options of the set.
        val: The option file's ``val`` section.
    """
    tiling = import_module('dynq_basicsr.models.tiling')
    where = tiling.TilingOptions.from_val(val)
    for item in import_module('basicsr.data').build_dataset(dict(dataset)):
        image = item['lq'][None]
        for top, left, bottom, right in tiling.tile_boxes(*image.shape[-2:], where):
            yield image[..., top:bottom, left:right]


def measure(option_file: str | Path, name: str | None, count: int) -> tuple[np.ndarray, str, str]:
    """Entropies of a data set's patches.

    Args:
        option_file: Has the data set, and ``val.patch_size`` and so on where it is one for tests; what it needs is
            registered already.
        name: See ``choose_set``.
        count: How many patches of a training set to draw.

    Returns:
        Entropies (n,), nats; name of the data set; what its patches are, for the reader.

    Raises:
        DynqError: If the option file or the data set does not fit.
    """
    from dynq_basicsr.policies.complexity import entropy
    from dynq_basicsr.report.one_image import read_options

    options = read_options(option_file)
    key, dataset = choose_set(options, option_file, name)
    if dataset['phase'] == 'train':
        survey = import_module('dynq_basicsr.training.survey')
        patches, what = survey.draw_patches(dataset, count, options.get('manual_seed') or 0), 'training patches'
    else:
        patches, what = cut_patches(dataset, options.get('val') or {}), 'patches of the test'
    values = [entropy(batch).numpy() for batch in patches]
    if not values:
        raise DynqError(f'{option_file}: datasets.{key} holds no images; check its dataroot_lq.')
    return np.concatenate(values), dataset['name'], what


def thresholds_of_checkpoint(option_file: str | Path, checkpoint: str | Path) -> Thresholds:
    """The thresholds that a trained network uses.

    Raises:
        DynqError: If its policy does not look at entropies.
    """
    from dynq_basicsr.report.one_image import load_model

    policy = getattr(load_model(option_file, checkpoint).network, 'policy', None)
    if not getattr(policy, 'entropy_bits', ()) or not policy.measured:
        raise DynqError(f'{checkpoint}: its policy has no entropy thresholds; give a checkpoint of GranularDQModel.')
    values = tuple(policy.thresholds().tolist())
    return Thresholds(policy.entropy_bits, values, f'of {Path(checkpoint).name}')


def thresholds_of_quantiles(option_file: str | Path, entropies: np.ndarray) -> Thresholds:
    """The thresholds that training would begin with, were these its patches: quantiles of their entropies.

    Raises:
        DynqError: If the option file has no policy that looks at entropies.
    """
    import torch

    from dynq_basicsr.config.quantization import ActivationOptions
    from dynq_basicsr.policies.base import AdaptiveBody
    from dynq_basicsr.policies.build import build_policy
    from dynq_basicsr.report.one_image import read_options

    options = read_options(option_file)['network_g'].get('policy') or {}
    if options.get('type') != 'GranularDQ' or not options.get('entropy_bits', True):
        raise DynqError(
            f'{option_file}: network_g.policy has no entropy thresholds; give --checkpoint, or an option file with '
            'policy.type GranularDQ.'
        )
    policy = build_policy(options, AdaptiveBody(0, ActivationOptions(), shallow_channels=1))
    policy.set_distribution(torch.from_numpy(entropies))
    quantiles = ', '.join(f'{quantile:g}' for quantile in policy.quantiles.tolist())
    return Thresholds(policy.entropy_bits, tuple(policy.thresholds().tolist()), f'the quantiles {quantiles}')
