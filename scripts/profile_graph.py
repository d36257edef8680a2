"""Where an exported graph spends its time, by operator, as ONNX Runtime's own profiler has it.

    python scripts/profile_graph.py --model MODEL_DIR [--code a4] [--size 96] [--batch 1] [--threads 2] [--runs 20]

The graph of a model folder on patches of noise. ``products`` is what the matrix products alone take, in whatever way
pixels are laid before them: no rewriting of the rest makes the graph faster than that. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dynq_basicsr.errors import DynqError, check_number
from dynq_basicsr.runtime.grids import inputs_of
from dynq_basicsr.runtime.manifest import Manifest
from dynq_basicsr.runtime.sessions import onnxruntime_session

PRODUCTS = ('MatMulIntegerToFloat', 'MatMulInteger', 'MatMul', 'Conv', 'FusedConv', 'ConvInteger')
_WARM_UP = 3  # runs that are not counted


def profile(
    content: bytes, image: np.ndarray, threads: int, runs: int, numbers: Mapping[str, np.ndarray] | None = None
) -> tuple[Counter, Counter]:
    """Milliseconds and number of kernels a run, by operator.

    Args:
        content: The ONNX file.
        image: Its input, (N, C, H, W).
        threads: Of the CPU.
        runs: How many are averaged.
        numbers: Of grids, by the names of inputs.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = onnxruntime_session(content, threads, str(Path(folder) / 'profile'))
        first, *others = session.get_inputs()
        given = {first.name: image} | {one.name: numbers[one.name] for one in others}
        for _ in range(_WARM_UP + runs):
            session.run(None, given)
        events = json.loads(Path(session.end_profiling()).read_text(encoding='utf-8'))
    kernels = [one for one in events if one.get('cat') == 'Node' and one['name'].endswith('_kernel_time')]
    counted = kernels[len(kernels) // (_WARM_UP + runs) * _WARM_UP :]
    times, counts = Counter(), Counter()
    for one in counted:
        times[one['args']['op_name']] += one['dur'] / 1000 / runs
        counts[one['args']['op_name']] += 1 / runs
    return times, counts


def table(times: Counter, numbers: Counter) -> str:
    """Operators as Markdown, the slowest first; all of them and the products alone at the end."""
    total = sum(times.values())
    products = sum(times[name] for name in PRODUCTS)
    rows = [(name, f'{numbers[name]:.0f}', time) for name, time in times.most_common()]
    rows += [('**all**', f'{sum(numbers.values()):.0f}', total), ('**products**', '', products)]
    lines = ['| operator | number | ms | share |', '|---|---|---|---|']
    lines += [f'| {name} | {number} | {time:.2f} | {time / total:.1%} |' for name, number, time in rows]
    return '\n'.join(lines)


def run(given: argparse.Namespace) -> None:
    """Profile the graph and print the table."""
    for key in ('size', 'batch', 'threads', 'runs'):
        check_number(f'--{key}', getattr(given, key), 1, whole=True)
    manifest = Manifest.load(given.model)
    codes = list(manifest.assignments)
    code = given.code or codes[len(codes) // 2]
    if code not in codes:
        raise DynqError(f'--code {code}: {given.model} has no such code; it has {", ".join(codes)}.')
    if given.size < manifest.least or given.size % manifest.multiple:
        raise DynqError(f'--size {given.size}: the network takes multiples of {manifest.multiple}, '
                        f'at least {manifest.least} pixels.')  # fmt: skip
    shape = given.batch, manifest.channels, given.size, given.size
    image = np.random.default_rng(0).random(shape, np.float32)
    numbers = inputs_of(manifest.assignments[code].grids)
    print(f'{code}, {shape}, {given.threads} threads\n\n'
          f'{table(*profile(manifest.network.read(), image, given.threads, given.runs, numbers))}')  # fmt: skip


def main() -> int:
    from dynq_basicsr.command import run_command

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--model', type=Path, required=True, help='a model folder')
    parser.add_argument('--code', help='at which of its bit assignments (default: the middle one)')
    parser.add_argument('--size', type=int, default=96, help='of the square patch, pixels (default: %(default)s)')
    parser.add_argument('--batch', type=int, default=1)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--runs', type=int, default=20)
    given = parser.parse_args()
    return run_command(lambda: run(given))


if __name__ == '__main__':
    sys.exit(main())
