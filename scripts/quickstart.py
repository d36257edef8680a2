"""From a float network to an adaptively quantized one, on photographs that are already on this machine.

    bash scripts/quickstart.sh

calls this in the project's environment. It makes ``datasets/quickstart`` from the photographs inside scikit-image,
runs the three option files ``options/quickstart_*.yml`` as any user would, and prints one table. Data are made once;
the results and the experiment of an earlier quick start are replaced.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from quickstart_data import prepare_data
from run_module import run_module

from dynq_basicsr.command import run_command
from dynq_basicsr.report.crops import crop_folders
from dynq_basicsr.report.one_image import read_options
from dynq_basicsr.report.tables import format_column, format_table, read_metrics

ROOT = Path(__file__).resolve().parent.parent
DATASET = 'photographs'
# Nothing else is ever removed.
OUTPUTS = ('results/quickstart', 'results/quickstart_float', 'results/quickstart_adabm_test',
           'experiments/quickstart_adabm_w4a4')  # fmt: skip


def run_stage(title: str, module: str, option_file: str, log: Path) -> float:
    """Run one of the package's commands; its words go to a log file, its iterations to the terminal.

    Args:
        title: What the user reads.
        module: ``dynq_basicsr.train`` or ``dynq_basicsr.test``.
        option_file: Relative to the project.
        log: File to append to.

    Returns:
        Seconds that it took.

    Raises:
        DynqError: If it fails; tells its last line.
    """
    sys.stdout.write(f'{title}: python -m {module} -opt {option_file}\n')
    sys.stdout.flush()
    total = (read_options(ROOT / option_file).get('train') or {}).get('total_iter')
    start = time.perf_counter()

    def show(iteration: int) -> None:
        if sys.stdout.isatty():
            sys.stdout.write(f'\r  iteration {iteration} of {total}, {time.perf_counter() - start:.0f} s\033[K')
            sys.stdout.flush()

    run_module(module, option_file, log, show)
    if sys.stdout.isatty():
        sys.stdout.write('\r\033[K')
    return time.perf_counter() - start


def model_size_of(option_file: str) -> float:
    """Size of the network of an option file in thousands of 32-bit parameters (AdaBM Table 5)."""
    from basicsr.archs import build_network
    from basicsr.utils import get_root_logger

    from dynq_basicsr.plugin import register
    from dynq_basicsr.quantization.cost import model_size

    get_root_logger(log_level=logging.WARNING)
    register()
    return model_size(build_network(read_options(ROOT / option_file)['network_g'])) / 1e3


def summary(seconds: dict[str, float], sizes: dict[str, float]) -> str:
    """Lay out the one table.

    Args:
        seconds: ``float`` and ``adabm``: of the two tests.
        sizes: The same, thousands of parameters.
    """
    runs = {'float': 'results/quickstart_float', 'adabm': 'results/quickstart_adabm_test'}
    metrics = [read_metrics(ROOT / folder)[DATASET] for folder in runs.values()]
    stages = json.loads((ROOT / 'experiments/quickstart_adabm_w4a4/adabm_timing.json').read_text())
    calibration = stages.pop('calibration')
    columns = {
        'network': ['float', 'AdaBM W4A4'],
        **{
            header: format_column([row[key] for row in metrics], unit)
            for header, key, unit in (
                ('PSNR', 'psnr', ' dB'),
                ('SSIM', 'ssim', ''),
                ('FAB', 'fab', ''),
                ('BitOPs 1080p', 'bitops_1080p', 'T'),
            )
        },
        'size': [f'{sizes[run]:.1f}K' for run in runs],
        'calibration': ['-', f'{calibration:.1f} s'],
        'fine-tuning': ['-', f'{sum(stages.values()):.1f} s'],
        'evaluation': [f'{seconds[run]:.1f} s' for run in runs],
    }  # fmt: skip
    return format_table(list(columns), list(zip(*columns.values(), strict=True)))


def collect_pictures(folder: Path) -> list[Path]:
    """Bring bit maps and crops together; return the files."""
    maps = sorted((ROOT / 'results/quickstart_adabm_test/visualization' / DATASET).glob('*_bits.png'))
    copies = [folder / re.sub(r'x\d_.*', '_bits.png', path.name) for path in maps]
    for path, copy in zip(maps, copies, strict=True):
        shutil.copyfile(path, copy)
    runs = {'float': 'quickstart_float', 'AdaBM W4A4': 'quickstart_adabm_test'}
    results = {label: ROOT / 'results' / run / 'visualization' / DATASET for label, run in runs.items()}
    return copies + crop_folders(ROOT / 'datasets/quickstart/eval/HR', results, folder)


def quickstart(began: float, installed: float) -> None:
    """Run everything.

    Args:
        began: When the installation began, seconds since the epoch.
        installed: When it ended.
    """
    for output in OUTPUTS:
        shutil.rmtree(ROOT / output, ignore_errors=True)
    folder = ROOT / 'results/quickstart'
    folder.mkdir(parents=True)
    if prepare_data(ROOT / 'datasets/quickstart'):
        sys.stdout.write('Made datasets/quickstart: 100 LR images to calibrate with, 4 photographs to evaluate.\n')
    log = folder / 'log.txt'
    seconds = {'float': run_stage('[1/3] Float network', 'dynq_basicsr.test', 'options/quickstart_float.yml', log)}
    run_stage('[2/3] AdaBM', 'dynq_basicsr.train', 'options/quickstart_adabm_w4a4.yml', log)
    seconds['adabm'] = run_stage('[3/3] Evaluation', 'dynq_basicsr.test', 'options/quickstart_adabm_test.yml', log)
    pictures = collect_pictures(folder)
    sizes = {run: model_size_of(f'options/quickstart_{name}.yml') for run, name in
             (('float', 'float'), ('adabm', 'adabm_test'))}  # fmt: skip
    table = summary(seconds, sizes)
    (folder / 'table.txt').write_text(table + '\n', encoding='utf-8')
    sys.stdout.write(
        f'\n{table}\n\n'
        'PSNR and SSIM of the luma, mean of 4 photographs, x4, in patches of 40x40. FAB: mean activation bits of the\n'
        'quantized layers. Size: 32-bit parameters; a 4-bit weight counts 1/8. Evaluation: with the start of Python.\n'
        'The quantized network is simulated in float here, so it is not faster yet.\n'
        f'Installation {installed - began:.0f} s, everything {time.time() - began:.0f} s.\n'
        f'Pictures in {folder.relative_to(ROOT)}: {", ".join(path.name for path in pictures)}\n'
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    now = time.time()
    parser.add_argument('--began', type=float, default=now, help='when the installation began, seconds since the epoch')
    parser.add_argument('--installed', type=float, default=now, help='when it ended')
    given = parser.parse_args(arguments)
    return run_command(lambda: quickstart(given.began, given.installed))


if __name__ == '__main__':
    sys.exit(main())
