"""From a quantized checkpoint to a folder of ONNX graphs that compute in integers.

    python -m dynq_basicsr.export -opt options/test_quantized_x4.yml \\
        --checkpoint experiments/NAME/models/net_g_latest.pth --out model_dir/

writes a graph for each bit assignment that the policy can choose, the policy itself, and a manifest. Needs the extra
``deploy`` (``pip install 'dynq_basicsr[deploy]'``).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from dynq_basicsr.command import run_command
from dynq_basicsr.deploy.extra import require
from dynq_basicsr.errors import DynqError

if TYPE_CHECKING:
    from dynq_basicsr.models.quantized_model import QuantizedModel


def export(option_file: str | Path, checkpoint: str | Path | None, out: str | Path, expected: bool = False) -> str:
    """Export the network of an option file.

    Args:
        option_file: An option file for tests: ``network_g``, ``path``, ``scale`` and ``val`` are read.
        checkpoint: Instead of its ``path.pretrain_network_g``.
        out: The model folder to write.
        expected: Evaluate the network on the data sets of the option file, for the manifest.

    Returns:
        What was written, for the reader.

    Raises:
        DynqError: If something is missing, or the network cannot be frozen exactly.
    """
    require('onnx', 'onnxruntime')
    from dynq_basicsr.deploy.freeze import freeze
    from dynq_basicsr.report.one_image import load_model, read_options

    model = load_model(option_file, checkpoint)
    kind = type(model.network).__name__
    if kind != 'QuantizedSR':
        raise DynqError(f'{option_file}: network_g is {kind}, but only a QuantizedSR can be exported.')
    options = read_options(option_file)
    figures = _evaluate(model, options) if expected else {}
    exported = freeze(model.network, out, model.tiling, figures, scale=options.get('scale'))
    lines = [f'{out}: {len(exported)} graphs, every layer exact; 8-bit results of artificial images beside PyTorch:']
    for one in exported:
        equal, within = 100 * one.agreement.equal, 100 * one.agreement.within_one
        size = f'{one.fab:.2f} bits, {one.size / 1e6:.2f} MB'
        lines.append(f'{one.code}: {size}, {equal:.2f} % equal, {within:.3f} % within 1')
    return '\n'.join(lines)


def _evaluate(model: QuantizedModel, options: dict) -> dict[str, dict[str, float]]:
    """Metrics of the option file's data sets, as ``python -m dynq_basicsr.test`` measures them."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Args:
        arguments: Without the program's name; None: those of this process.

    Returns:
        The exit code: 0, or 2 after an error that the user can mend.
    """
    parser = argparse.ArgumentParser(prog='python -m dynq_basicsr.export', description='Freeze a network to integers.')
    parser.add_argument('-opt', required=True, help='an option file for tests, as options/test_quantized_x4.yml')
    parser.add_argument('--checkpoint', type=Path, help='instead of path.pretrain_network_g')
    parser.add_argument('--out', required=True, type=Path, help='the model folder to write')
    parser.add_argument('--expected', action='store_true', help='measure the data sets of the option file, too')
    given = parser.parse_args(arguments)
    return run_command(lambda: print(export(given.opt, given.checkpoint, given.out, given.expected)))


if __name__ == '__main__':
    sys.exit(main())
