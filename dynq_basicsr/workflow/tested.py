"""Export of the network of an option file for tests, with what it reaches on that file's data sets."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.freeze import Exported, freeze
from dynq_basicsr.report.one_image import load_model, read_options

if TYPE_CHECKING:
    from dynq_basicsr.models.quantized_model import QuantizedModel


def export_tested(
    option_file: str | Path,
    checkpoint: str | Path | None,
    out: str | Path,
    expected: bool = False,
    qdq: bool = False,
) -> Exported:
    """Export the network of an option file.

    Args:
        option_file: An option file for tests: ``network_g``, ``path``, ``scale`` and ``val`` are read.
        checkpoint: Instead of its ``path.pretrain_network_g``.
        out: The model folder to write.
        expected: Evaluate the network on the data sets of the option file, for the manifest.
        qdq: See ``freeze``.

    Raises:
        DynqError: If something is missing, or the network cannot be frozen exactly.
    """
    model = load_model(option_file, checkpoint)
    if not isinstance(model.network, QuantizedSR):
        kind = type(model.network).__name__
        raise DynqError(f'{option_file}: network_g is {kind}, but only a QuantizedSR can be exported.')
    options = read_options(option_file)
    figures = _evaluate(model, options) if expected else {}
    return freeze(model.network, out, model.tiling, figures, scale=options.get('scale'), qdq=qdq)


def _evaluate(model: QuantizedModel, options: dict) -> dict[str, dict[str, float]]:
    """Metrics of the option file's data sets, as ``dynq test`` measures them."""
    data = import_module('basicsr.data')
    model.records = None
    model.opt['name'] = 'export'
    figures = {}
    for key, given in (options.get('datasets') or {}).items():
        dataset = {**given, 'phase': key.split('_')[0], 'scale': options.get('scale', 1)}
        loader = data.build_dataloader(
            data.build_dataset(dataset), dataset, num_gpu=0, dist=False, sampler=None, seed=0
        )
        model.nondist_validation(loader, 'export', None, save_img=False)
        figures[dataset['name']] = {name: round(value, 6) for name, value in model.metric_results.items()}
    return figures


def summary(folder: str | Path, exported: Exported) -> str:
    """What was exported, for the reader."""
    size, share = exported.size / 1e6, exported.size / exported.float_size
    lines = [
        f'{folder}: {size:.2f} MB, {share:.2f} x the float parameters ({exported.float_size / 1e6:.2f} MB); every '
        'layer exact; 8-bit results of artificial images beside PyTorch:'
    ]
    for one in exported.codes:
        equal, within = 100 * one.agreement.equal, 100 * one.agreement.within_one
        lines.append(f'{one.code}: {one.fab:.2f} bits, {equal:.2f} % equal, {within:.3f} % within 1')
    return '\n'.join(lines)
