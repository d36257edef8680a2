"""Measure AdaBM: seconds of each stage, peak memory, and what fake quantization adds to the float forward.

    python scripts/bench/adabm.py [-opt options/adabm_srresnet_x4_w4a4.yml ...] [--iterations 100] [--threads 2]
    python scripts/bench/adabm.py -opt options/adabm_fast_srresnet_x4_w4a4.yml --curve 0 40 75 150 300

Times one forward of two patches, float and quantized; then runs the option file's whole process as a user would, in a
process of its own, without validation on the way. Prints a Markdown table, a column a file. What it trained stays in
``experiments``.
Times are given in forwards of the bare float network, too: machines differ, that ratio hardly does. ``--curve`` runs
the process once for each number of iterations instead, and tells what each reaches on the file's validation set.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REPEATS = 7
NO_STAGES = ('calibration', 'whole process', 'peak GiB')


def run_process(option_file: Path, iterations: int | None, threads: int) -> dict[str, float]:
    """Run calibration and fine-tuning; return seconds a stage, the wall time and the peak memory in GiB."""
    options = read_options(option_file)
    command = [
        sys.executable,
        '-m',
        'dynq_basicsr.train',
        '-opt',
        str(option_file),
        '--force_yml',
        'val:val_freq=1000000',
    ]
    if iterations is not None:
        options['name'] = benchmark_name(options, iterations)  # another run must not take the place of the real one
        command.append(f'name={options["name"]}')
        command.append(f'train:total_iter={options["train"]["calibration_iter"] + iterations}')
    start = time.perf_counter()
    with tempfile.TemporaryFile('w+', encoding='utf-8') as output:
        environment = {**os.environ, 'OMP_NUM_THREADS': str(threads)}
        run = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(run.pid, 0)  # of this process alone, not of all that ran before
        wall = time.perf_counter() - start
        if status:
            output.seek(0)
            sys.exit(f'The run failed: {output.read().strip().splitlines()[-1]}')
    stages = json.loads((ROOT / 'experiments' / options['name'] / 'adabm_timing.json').read_text())
    return {**stages, 'whole process': wall, 'peak GiB': usage.ru_maxrss / 2**20}


def benchmark_name(options: dict, iterations: int) -> str:
    """Name of the experiment that fine-tunes for another number of iterations."""
    return f'{options["name"]}_benchmark_{iterations}'


def curve(option_file: Path, lengths: list[int], threads: int) -> None:
    """Print what each length of fine-tuning costs and reaches."""
    options = read_options(option_file)
    if not options.get('val'):
        sys.exit(f'{option_file}: --curve needs a data set to validate on; add datasets.val and val.')
    print(f'`{option_file.name}`, {threads} threads, {options["datasets"]["val"]["name"]}\n')
    metrics = list(options['val']['metrics'])
    print(f'| iterations | calibration and fine-tuning | whole process | {" | ".join(metrics)} |')
    print('|---' * (3 + len(metrics)) + '|')
    for length in lengths:
        figures = run_process(option_file, length, threads)
        file = ROOT / 'experiments' / benchmark_name(options, length) / 'curve.csv'
        with open(file, newline='', encoding='utf-8') as stream:
            reached = list(csv.DictReader(stream))[-1]
        learning = sum(seconds for key, seconds in figures.items() if key not in NO_STAGES)
        cells = [f'{float(reached[metric]):.3f}' for metric in metrics]
        print(f'| {length} | {figures["calibration"] + learning:.0f} s | {figures["whole process"]:.0f} s | '
              f'{" | ".join(cells)} |', flush=True)  # fmt: skip


def read_options(option_file: Path) -> dict:
    """The option file as a mapping."""
    import yaml

    return yaml.safe_load(option_file.read_text())


def best_of(call: Callable[[], object]) -> float:
    """Seconds of the fastest of several calls, after one to warm up, and of what they started on a GPU."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times = []
    for _ in range(REPEATS + 1):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def forward_costs(option_file: Path, threads: int) -> dict[str, float]:
    """Seconds of a forward of two patches: the bare backbone, and the wrapped network, float and quantized."""
    import torch
    from basicsr.archs import build_network

    from dynq_basicsr.numerics.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    net = build_network(read_options(option_file)['network_g']).eval().to(memory_format=torch.channels_last)
    net.calibrated = True
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')  # as ``num_gpu: auto`` chooses
    net.to(device)
    patches = torch.rand(2, 3, 96, 96, device=device).contiguous(memory_format=torch.channels_last)
    costs = {}
    with torch.no_grad():
        costs['bare'] = best_of(lambda: net.backbone(patches))
        costs['exact'] = best_of(lambda: net(patches))
        for label, dtype in (('', None), (' in bfloat16', torch.bfloat16)):
            for mode in ('float', 'training'):
                costs[f'{mode}{label}'] = best_of(
                    lambda mode=mode, dtype=dtype: net(patches, mode=mode, matmul_dtype=dtype)
                )
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-opt', type=Path, nargs='+', default=[ROOT / 'options/adabm_srresnet_x4_w4a4.yml'],
                        help='one column each')  # fmt: skip
    parser.add_argument('--iterations', type=int, help='of fine-tuning, instead of those of the option file')
    parser.add_argument('--curve', type=int, nargs='+', metavar='N', help='numbers of iterations to compare')
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--json', type=Path, help='write the figures of each file there, too')
    arguments = parser.parse_args()
    files = [file.resolve() for file in arguments.opt]
    if not (ROOT / 'datasets').exists() and (ROOT / '../shared/data').is_dir():
        subprocess.run(['bash', ROOT / 'scripts/link_datasets.sh'], check=True, stdout=subprocess.DEVNULL)
    if arguments.curve:
        for file in files:
            curve(file, arguments.curve, arguments.threads)
        return

    measured = [measure(file, arguments.iterations, arguments.threads) for file in files]
    columns = [column(file, arguments.iterations, *one) for file, one in zip(files, measured, strict=True)]
    if arguments.json:
        pairs = zip(files, measured, strict=True)
        table = {file.stem: {'forward': costs, **figures} for file, (costs, figures) in pairs}
        arguments.json.write_text(json.dumps(table, indent=1) + '\n')
    print(f'{arguments.threads} threads\n')
    print(f'| what | {" | ".join(f"`{file.name}`" for file in files)} |')
    print('|---' * (1 + len(files)) + '|')
    for what in dict.fromkeys(what for one in columns for what in one):
        print(f'| {what} | {" | ".join(one.get(what, "") for one in columns)} |')


def measure(option_file: Path, iterations: int | None, threads: int) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of forwards, and of the stages of the whole process."""
    return forward_costs(option_file, threads), run_process(option_file, iterations, threads)


def column(
    option_file: Path, iterations: int | None, costs: dict[str, float], figures: dict[str, float]
) -> dict[str, str]:
    """What was measured of an option file, as the table shows it."""
    train = read_options(option_file)['train']
    if iterations is None:
        iterations = train['total_iter'] - train['calibration_iter']
    stages = [stage for stage in figures if stage not in NO_STAGES]
    fine_tuning = sum(figures[stage] for stage in stages)
    total, iteration, unit = figures['calibration'] + fine_tuning, fine_tuning / max(iterations, 1), costs['bare']
    cells = {
        'iterations of fine-tuning': f'{iterations}',
        'calibration': f'{figures["calibration"]:.1f} s',
        **{f'fine-tuning, {stage}': f'{figures[stage]:.1f} s' for stage in stages},
        'an iteration of fine-tuning': f'{iteration:.2f} s = {iteration / unit:.2f} float forwards',
        'calibration and fine-tuning': f'{total:.1f} s = {total / unit:.0f} float forwards',
        'whole process, start and last validation included': f'{figures["whole process"]:.1f} s',
        'peak memory': f'{figures["peak GiB"]:.2f} GiB',
        'bare float forward of two patches, the unit above': f'{unit:.3f} s',
    }
    pairs = [('exact', 'bare'), ('training', 'float'), ('training in bfloat16', 'float in bfloat16')]
    for ours, floating in pairs:
        ratio = costs[ours] / costs[floating]
        cells[f'forward, {ours} / {floating}'] = f'{costs[ours]:.3f} s / {costs[floating]:.3f} s = {ratio:.2f}'
    return cells


if __name__ == '__main__':
    main()
