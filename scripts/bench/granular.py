"""Measure Granular-DQ: what quantization adds to a training step and to patch-wise evaluation.

    python scripts/bench/granular.py [-opt options/granular_srresnet.yml ...] [--device cuda] [--precision bfloat16]
    python scripts/bench/granular.py --operations --json FILE

A training step (forward, L1 loss, backward, optimizer) of the bare backbone as BasicSR builds it, of our wrapper with
quantization off, of the quantized network, and of the same through ``torch.compile``; on a GPU with the CUDA graphs
that ``train.compile`` uses. Then the quantized step with one bit-width in the batch instead of many, peak memory (on a
GPU), and a forward of evaluation patches, float and quantized. All in turn, in one run; figures are medians of the
ratios within a turn. Weights and images are random: neither changes the time. Prints a Markdown table.

``--operations`` counts ATen operators of forward and backward instead (views and detach left out; our own operators
count as one each, and ``kernel`` says what is inside of them) and host reads of the whole step.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = [ROOT / f'options/granular_{name}.yml' for name in ('edsr', 'srresnet', 'idn', 'swinir_light')]
EVALUATION_PATCH = 96


def build(option_file: Path, device: torch.device):
    """The network of an option file, calibrated on noise, and its options."""
    from basicsr.archs import build_network

    from dynq_basicsr import plugin
    from dynq_basicsr.quantization.clipping import Clipping
    from dynq_basicsr.report.one_image import read_options
    from dynq_basicsr.training.calibration import Calibration

    plugin.register()
    options = read_options(option_file)
    torch.manual_seed(0)
    net = build_network(options['network_g']).eval().to(memory_format=torch.channels_last)
    calibration = Calibration(net, Clipping(bit_aware=False), measures=torch.linspace(1, 3.4, 1000))
    calibration.observe(torch.rand(2, 3, 32, 32))
    calibration.finish()
    return net.to(device), options


def _cast(layer: nn.Module, dtype: torch.dtype) -> None:
    """Let a float layer multiply in another precision; its result comes back in float32."""
    weight, bias = layer.weight, layer.bias

    def forward(x: Tensor) -> Tensor:
        operands = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        return (F.linear(*operands) if isinstance(layer, nn.Linear) else layer._conv_forward(*operands)).float()

    layer.forward = forward


def bare_backbone(options: dict, dtype: torch.dtype | None, device: torch.device) -> nn.Module:
    """BasicSR's network, without our wrapper; operands of its layers cast to ``dtype`` as training casts ours."""
    from basicsr.archs import build_network

    net = build_network(dict(options['network_g']['backbone'])).to(device, memory_format=torch.channels_last).train()
    if dtype is not None:
        for layer in net.modules():
            if type(layer) in (nn.Conv2d, nn.Linear):
                _cast(layer, dtype)
    return freeze_norms(net)


def freeze_norms(net: nn.Module) -> nn.Module:
    """Batch normalization as in ``train.freeze_batch_norm``."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return net


class Counting(TorchDispatchMode):
    """Counts the operators that PyTorch dispatches."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Count and go on."""
        aliases = [argument.alias_info for argument in func._schema.arguments]
        if not any(alias is not None and not alias.is_write for alias in aliases):
            self.counts[func.name()] += 1
        return func(*args, **(kwargs or {}))


@dataclass
class Workload:
    """What one training step does.

    Attributes:
        images: (N, C, H, W).
        target: (N, C, s * H, s * W).
        dtype: Operands of products are cast to it; None: float32.
    """

    images: Tensor
    target: Tensor
    dtype: torch.dtype | None

    def step(
        self, run: Callable[[Tensor], Tensor], net: nn.Module, begin: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """A whole step of a network that ``run`` calls."""
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-6, fused=self.images.device.type in ('cpu', 'cuda'))

        def step() -> None:
            begin()
            optimizer.zero_grad()
            F.l1_loss(run(self.images), self.target).backward()
            optimizer.step()

        return step


def workload(net: nn.Module, options: dict, given: argparse.Namespace) -> Workload:
    """Random images for a network that an option file trains."""
    from dynq_basicsr.numerics.matmul import matmul_dtype

    usual = 24 if given.device.type == 'cpu' else options['datasets']['train']['gt_size'] // options['scale']
    patch = given.patch or usual
    channels, scale = net.input_channels, options['scale']
    images = torch.rand(given.batch, channels, patch, patch, device=given.device)
    target = torch.rand(given.batch, channels, scale * patch, scale * patch, device=given.device)
    dtype = matmul_dtype(given.precision or options['train'].get('precision', 'auto'), given.device)
    return Workload(images.contiguous(memory_format=torch.channels_last), target, dtype)


def operations(option_file: Path, given: argparse.Namespace) -> dict[str, object]:
    """Operators of forward and backward, float and quantized, and host reads of a whole quantized step."""
    from dynq_basicsr.numerics.native import native_kernels

    net, options = build(option_file, given.device)
    freeze_norms(net.train())
    work = workload(net, options, given)
    work.dtype = None if given.precision is None else work.dtype
    found: dict[str, object] = {}
    for what, mode in (('float', 'float'), ('quantized', 'training')):
        step = work.step(lambda x, mode=mode: net(x, mode=mode, matmul_dtype=work.dtype), net)
        step()
        net.zero_grad()
        with Counting() as counting:
            F.l1_loss(net(work.images, mode=mode, matmul_dtype=work.dtype), work.target).backward()
        found[what] = sum(counting.counts.values()) - counting.counts['aten::detach']
        with Counting() as counting:
            net.policy.adapt(work.images)
            step()
        found['host_reads'] = counting.counts['aten::_local_scalar_dense']
    native = 'native' if native_kernels() else 'composite'
    return {**found, 'kernel': 'triton' if given.device.type == 'cuda' else native}


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Of one call, and of what it started on a GPU."""
    if device.type == 'cuda':
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device.type == 'cuda':
        torch.cuda.synchronize()
    return time.perf_counter() - start


def peak_bytes(call: Callable[[], object]) -> int:
    """Peak memory of a call on the GPU."""
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


def training(option_file: Path, given: argparse.Namespace) -> dict[str, float]:
    """Seconds of the bare backbone's step, and how many times as long the others take."""
    from dynq_basicsr.training.compiling import CompiledNetwork

    net, options = build(option_file, given.device)
    freeze_norms(net.train())
    work = workload(net, options, given)
    bare = bare_backbone(options, work.dtype, given.device)
    some_bits = torch.full((len(net.plan.adaptive),), float(net.policy.candidates[-1]), device=given.device)

    def run(mode: str, through: Callable = net, **more: object) -> Callable[[Tensor], Tensor]:
        return lambda x: through(x, mode=mode, matmul_dtype=work.dtype, **more)

    steps = {
        'bare': work.step(bare, bare),
        'wrapper, quantization off': work.step(run('float'), net),
        'quantized': work.step(run('training'), net),
        'quantized, one bit-width': work.step(run('training', bits=some_bits), net),
    }
    if not given.eager:
        compiled = CompiledNetwork(net, given.device)
        steps['quantized, compiled'] = work.step(run('training', compiled), net, compiled.begin_step)
        if given.compile_bare:
            compiled = CompiledNetwork(bare, given.device)
            steps['bare, compiled'] = work.step(compiled, bare, compiled.begin_step)
    for one in steps.values():
        for _ in range(3):  # CUDA graphs are recorded in the second call
            one()
    times = [{name: seconds(one, given.device) for name, one in steps.items()} for _ in range(given.turns)]
    found = {'bare': median(turn['bare'] for turn in times)}
    found |= {name: median(turn[name] / turn['bare'] for turn in times) for name in steps if name != 'bare'}
    if given.device.type == 'cuda':
        found['peak memory'] = peak_bytes(steps['quantized']) / peak_bytes(steps['bare'])
    return found


@torch.no_grad()
def evaluation(option_file: Path, given: argparse.Namespace) -> float:
    """How many times as long as the bare backbone's a forward of four patches takes."""
    net, options = build(option_file, given.device)
    net.eval()
    bare = bare_backbone(options, None, given.device).eval()
    images = torch.rand(4, net.input_channels, EVALUATION_PATCH, EVALUATION_PATCH, device=given.device)
    images = images.contiguous(memory_format=torch.channels_last)
    for one in (bare, net):
        one(images)
    times = [
        (seconds(lambda: bare(images), given.device), seconds(lambda: net(images), given.device))
        for _ in range(given.turns)
    ]
    return median(ours / floating for floating, ours in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('-opt', type=Path, nargs='+', default=DEFAULT, help='option files of GranularDQModel')
    parser.add_argument('--batch', type=int, default=16, help='samples of a training step (default: 16)')
    parser.add_argument('--patch', type=int, help='its side, LR pixels (default: 24; on a GPU the option file\'s)')
    parser.add_argument('--precision', choices=('float32', 'bfloat16', 'auto'), help='default: the option file\'s')
    parser.add_argument('--turns', type=int, default=7)
    parser.add_argument('--threads', type=int, default=os.cpu_count())
    parser.add_argument('--device', type=torch.device, default=torch.device('cpu'), help='default: cpu')
    parser.add_argument('--eager', action='store_true', help='leave the compiler out')
    parser.add_argument('--compile-bare', action='store_true', help='compile the bare backbone as well')
    parser.add_argument('--operations', action='store_true', help='count operators instead; float32 unless --precision')
    parser.add_argument('--json', type=Path, help='write the figures there, too')
    given = parser.parse_args()
    from dynq_basicsr.numerics.allocator import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(given.threads)
    where = f'{given.threads} threads' if given.device.type == 'cpu' else torch.cuda.get_device_name(given.device)
    print(f'{where}, training batch {given.batch}, evaluation 4 of {EVALUATION_PATCH} x {EVALUATION_PATCH}\n')
    figures: dict[str, dict] = {}
    for option_file in given.opt:
        name = option_file.stem.removeprefix('granular_')
        if given.operations:
            found = operations(option_file.resolve(), given)
        else:
            found = training(option_file.resolve(), given)
            found['evaluation'] = evaluation(option_file.resolve(), given)
        if not figures:
            print(f'| network | {" | ".join(found)} |')
            print('|---' * (1 + len(found)) + '|')
        figures[name] = found
        cells = [f'{value:.3g}' if isinstance(value, float) else str(value) for value in found.values()]
        print(f'| {name} | {" | ".join(cells)} |', flush=True)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + '\n')


if __name__ == '__main__':
    main()
