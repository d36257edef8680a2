"""Measure Granular-DQ: what quantization adds to a training step and to patch-wise evaluation.

    python scripts/benchmark_granular.py [-opt options/granular_srresnet.yml ...] [--batch 16] [--device cuda]

A training step (forward, L1 loss, backward, optimizer) of the float network, of ours, and of the naive way, in which
every candidate bit-width is evaluated for every sample and masked (as the published code does). Then a forward of
evaluation patches, float and ours. All in turn, in one run; figures are medians of the ratios within a turn. Weights
and images are random: neither changes the time. A teacher (``train.teacher``) is not in it: a forward of the float
network more. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = [ROOT / f'options/granular_{name}.yml' for name in ('srresnet', 'edsr', 'idn', 'swinir_light', 'hat_s')]
EVALUATION_PATCH = 96


def build(option_file: Path, device: torch.device):
    """The network of an option file, calibrated on noise, and its options."""
    from basicsr.archs import build_network

    from dynq_basicsr import plugin
    from dynq_basicsr.models.calibration import Calibration
    from dynq_basicsr.report.one_image import read_options

    plugin.register()
    options = read_options(option_file)
    torch.manual_seed(0)
    net = build_network(options['network_g']).eval().to(memory_format=torch.channels_last)
    net.policy.set_distribution(torch.linspace(1, 3.4, 1000))
    calibration = Calibration(net, bit_aware_clipping=False)
    calibration.observe(torch.rand(2, 3, 32, 32))
    calibration.finish()
    return net.to(device), options


@contextmanager
def every_candidate():
    """Quantize each sample at every candidate bit-width and keep one result."""
    from dynq_basicsr.quantization.ranges import RangeTable, StepTable

    originals = {table: table.quantize for table in (RangeTable, StepTable)}

    def quantize(table: RangeTable | StepTable, x: Tensor, bits: Tensor | float) -> Tensor:
        bits = torch.as_tensor(bits, dtype=x.dtype)
        return sum(
            originals[type(table)](table, x, one) * (bits == one).to(x.dtype).view(-1, *[1] * (x.dim() - 1))
            for one in table.candidates.tolist()
        )

    for table in originals:
        table.quantize = quantize
    try:
        yield
    finally:
        for table, once in originals.items():
            table.quantize = once


def _device(net) -> torch.device:
    return next(net.parameters()).device


def seconds(call: Callable[[], object]) -> float:
    """Of one call, and of what it started on a GPU."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compiled_kernels(net) -> dict:
    """Those that ``train.compile`` asks for."""
    from dynq_basicsr.quantization.compiled import CannotCompile, compile_rounding

    gradient = net.quantization.rounding_gradient
    try:
        return {gradient: compile_rounding(gradient)}
    except CannotCompile as error:
        print(f'Without compiled gradients: {error}\n')
        return {}


def training_ratios(net, options: dict, batch: int, patch: int, turns: int) -> tuple[float, float, float]:
    """Seconds of a float step, and how many times as long ours and the naive one take."""
    from dynq_basicsr.models.granular_options import GranularOptions
    from dynq_basicsr.models.precision import products_in
    from dynq_basicsr.quantization.compiled import compiled_rounding

    recipe, scale = GranularOptions.from_dict(options['train']), options['scale']
    net.train()
    images = torch.rand(batch, 3, patch, patch, device=_device(net)).contiguous(memory_format=torch.channels_last)
    target = torch.rand(batch, 3, scale * patch, scale * patch, device=images.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-6)
    kernels = compiled_kernels(net) if recipe.compile and images.device.type == 'cpu' else {}

    def step() -> None:
        with products_in(recipe.precision, images.device), compiled_rounding(kernels):
            optimizer.zero_grad()
            F.l1_loss(net(images), target).backward()
            optimizer.step()

    def float_step() -> None:
        with net.floating():
            step()

    def naive_step() -> None:
        with every_candidate():
            step()

    steps = (float_step, step, naive_step)
    for one in steps:
        one()
    times = [[seconds(one) for one in steps] for _ in range(turns)]
    return (
        median(row[0] for row in times),
        median(row[1] / row[0] for row in times),
        median(row[2] / row[0] for row in times),
    )


@torch.no_grad()
def evaluation_ratio(net, turns: int) -> tuple[float, float]:
    """Seconds of a float forward of four patches, and how many times as long ours takes."""
    from dynq_basicsr.models.precision import Products

    net.eval()
    images = torch.rand(4, 3, EVALUATION_PATCH, EVALUATION_PATCH, device=_device(net))
    images = images.contiguous(memory_format=torch.channels_last)

    def forward() -> None:
        with Products():
            net(images)

    def float_forward() -> None:
        with net.floating():
            forward()

    float_forward()
    forward()
    times = [(seconds(float_forward), seconds(forward)) for _ in range(turns)]
    return median(row[0] for row in times), median(row[1] / row[0] for row in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-opt', type=Path, nargs='+', default=DEFAULT, help='option files of GranularDQModel')
    parser.add_argument('--batch', type=int, default=16, help='samples of a training step (default: 16)')
    parser.add_argument('--patch', type=int, default=24, help='side of a training patch, LR pixels (default: 24)')
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--device', type=torch.device, default='cpu', help='cpu (default), cuda or cuda:N')
    given = parser.parse_args()
    from dynq_basicsr.models.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(given.threads)
    where = f'{given.threads} threads' if given.device.type == 'cpu' else torch.cuda.get_device_name(given.device)
    print(f'{where}, training batch {given.batch} of {given.patch} x {given.patch} LR pixels, '
          f'evaluation 4 of {EVALUATION_PATCH} x {EVALUATION_PATCH}\n')  # fmt: skip
    print('| network | float step | ours / float | every candidate / float | float forward | ours / float |')
    print('|---|---|---|---|---|---|')
    for option_file in given.opt:
        net, options = build(option_file.resolve(), given.device)
        step, ours, naive = training_ratios(net, options, given.batch, given.patch, given.turns)
        forward, evaluation = evaluation_ratio(net, given.turns)
        print(f'| {option_file.stem} | {step:.3f} s | {ours:.2f} | {naive:.2f} | {forward:.3f} s | {evaluation:.2f} |',
              flush=True)  # fmt: skip


if __name__ == '__main__':
    main()
