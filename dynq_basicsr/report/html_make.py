"""From a quantized network and pictures to the HTML report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from dynq_basicsr.report.bit_map import telling_patch
from dynq_basicsr.report.html_compare import FLOAT, QUANTIZED, compare, read_shown
from dynq_basicsr.report.html_inputs import Choice, float_size, quantized_size
from dynq_basicsr.report.html_report import Setting, html_report
from dynq_basicsr.runtime.choices import MANIFEST
from dynq_basicsr.workflow.quantized import Quantized


def make_report(quantized: Quantized, folder: Path, choice: Choice, patch: int | None = None) -> str:
    """Run a network on pictures, and lay out what comes of it.

    Args:
        quantized: The network.
        folder: Where it is from: a model folder, whose graphs run, a run of BasicSR, or a checkpoint.
        choice: The pictures.
        patch: Side of the patches that bits are chosen for, LR pixels; 0: whole pictures; None: the network's own, or
            so small that every picture has several.

    Returns:
        The file, text.

    Raises:
        DynqError: If a picture does not fit.
    """
    pictures = [read_shown(path, quantized.network.scale) for path, _ in choice.pairs]
    sizes = [one.pixels.shape[:2] for one in pictures]
    if patch is None:
        patch = min(telling_patch(*size, quantized.tiling) for size in sizes)
    patch = patch or max(map(max, sizes))
    view = Quantized(quantized.network, replace(quantized.tiling, patch_size=patch, patch_step=None))
    graphs = _graphs(folder, patch)
    for run in (view.reference, graphs or view.upscale):  # the first run of all loads and compiles
        run(pictures[0].pixels[:patch, :patch])
    compared = [compare(one, truth, view, graphs) for one, (_, truth) in zip(pictures, choice.pairs, strict=True)]
    known = {FLOAT: float_size(folder), QUANTIZED: quantized_size(folder)}
    setting = Setting(
        quantized.network,
        patch,
        {way: size for way, size in known.items() if size is not None},
        {FLOAT: 'PyTorch', QUANTIZED: 'PyTorch' if graphs is None else 'ONNX Runtime'},
        choice.words,
    )
    return html_report(compared, setting)


def _graphs(folder: Path, patch: int) -> Callable[[np.ndarray], np.ndarray] | None:
    """What runs the graphs of a folder; None where there are none, or nothing that runs them."""
    if not (folder / MANIFEST).is_file() or find_spec('onnxruntime') is None:
        return None
    from dynq_basicsr.runtime.model import FrozenModel

    return FrozenModel(folder, patch=patch).upscale
