"""Measure AdaBM: seconds of each stage, peak memory, and what fake quantization adds to the float forward.

    python scripts/benchmark_adabm.py [-opt options/adabm_srresnet_x4_w4a4.yml] [--iterations 500] [--threads 2]

Runs the option file's whole process (calibration, then ``--iterations`` of fine-tuning) as a user would, in a process
of its own; then times one forward of two patches, float and quantized. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 7


def run_process(option_file: Path, iterations: int, threads: int) -> dict[str, float]:
    """Run calibration and fine-tuning; return seconds a stage, the wall time and the peak memory in GiB."""
    options = read_options(option_file)
    total = options['train']['calibration_iter'] + iterations
    with tempfile.TemporaryDirectory() as folder:
        for name in ('datasets', 'dynq_basicsr'):
            (Path(folder) / name).symlink_to(ROOT / name)
        command = [
            sys.executable, '-m', 'dynq_basicsr.train', '-opt', str(option_file), '--force_yml', 'name=benchmark',
            f'train:total_iter={total}', 'val:val_freq=1000000', 'logger:save_checkpoint_freq=1000000',
        ]  # fmt: skip
        environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
        start = time.perf_counter()
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        wall = time.perf_counter() - start
        if run.returncode:
            sys.exit(f'The run failed: {(run.stderr or run.stdout).strip().splitlines()[-1]}')
        stages = json.loads((Path(folder) / 'experiments/benchmark/adabm_timing.json').read_text())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return {**stages, 'whole process': wall, 'peak GiB': peak}


def read_options(option_file: Path) -> dict:
    """The option file as a mapping."""
    import yaml

    return yaml.safe_load(option_file.read_text())


def best_of(call: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls, after one to warm up."""
    call()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def forward_costs(option_file: Path, threads: int) -> dict[str, float]:
    """Seconds of a forward of two patches: float, quantized, and each with products in bfloat16."""
    import torch
    from basicsr.archs import build_network

    from dynq_basicsr.models.precision import Bfloat16Products

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = build_network(read_options(option_file)['network_g']).eval().to(memory_format=torch.channels_last)
    net.calibrated.fill_(True)
    patches = torch.rand(2, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    costs = {}
    with torch.no_grad():
        for label, products in (('', None), (' in bfloat16', Bfloat16Products)):

            def forward(products=products) -> None:
                with products() if products else torch.no_grad():
                    net(patches)

            with net.floating():
                costs[f'float{label}'] = best_of(forward)
            costs[f'quantized{label}'] = best_of(forward)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-opt', type=Path, default=ROOT / 'options/adabm_srresnet_x4_w4a4.yml')
    parser.add_argument('--iterations', type=int, default=500, help='of fine-tuning')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    arguments = parser.parse_args()

    costs = forward_costs(arguments.opt.resolve(), arguments.threads)
    figures = run_process(arguments.opt.resolve(), arguments.iterations, arguments.threads)
    fine_tuning = sum(figures.get(stage, 0) for stage in ('weight', 'activation', 'mapping'))
    print(f'`{arguments.opt.name}`, {arguments.threads} threads, {arguments.iterations} iterations of fine-tuning\n')
    print('| what | measured |\n|---|---|')
    print(f'| calibration | {figures["calibration"]:.0f} s |')
    for stage in ('weight', 'activation', 'mapping'):
        print(f'| fine-tuning, {stage} | {figures.get(stage, 0):.0f} s |')
    print(f'| calibration and fine-tuning | {figures["calibration"] + fine_tuning:.0f} s |')
    print(f'| one iteration of fine-tuning | {fine_tuning / max(arguments.iterations, 1):.2f} s |')
    print(f'| whole process, start and last validation included | {figures["whole process"]:.0f} s |')
    print(f'| peak memory | {figures["peak GiB"]:.2f} GiB |')
    for label in ('', ' in bfloat16'):
        ours, floating = costs[f'quantized{label}'], costs[f'float{label}']
        print(f'| quantized / float forward{label} | {ours:.3f} s / {floating:.3f} s = {ours / floating:.2f} |')


if __name__ == '__main__':
    main()
