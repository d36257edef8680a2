"""Training steps through PyTorch's compiler, where there is one and it pays."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from basicsr.utils import get_root_logger
from torch import nn
from torch.utils._pytree import tree_leaves

# Iterations from which on the compiler's minute or two is won back on a GPU, where it saves most of a step. On CPUs,
# eager kernels are fused as well: a compiled step took 0.93 to 1.12 times an eager one (scripts/bench/granular.py).
PAYS = 1000


def wants_compiler(option: bool | str, device: torch.device, iterations: int) -> bool:
    """Whether to compile.

    Args:
        option: ``train.compile``: true, false, or ``auto``: on a GPU, where the run is long enough.
        device: Where training runs.
        iterations: How many it has.
    """
    if option != 'auto':
        return bool(option)
    return device.type == 'cuda' and iterations >= PAYS


class CompiledNetwork:
    """A network that is compiled when it first runs, and runs as it is where that fails.

    On a GPU, where training patches have one shape, kernels are launched as CUDA graphs; ``begin_step`` is called once
    a step then.

    Args:
        net: The network, or what wraps it for parallel training.
        device: Where it runs.
    """

    def __init__(self, net: nn.Module, device: torch.device) -> None:
        self._net, self._device = net, device
        self._proven: set[tuple] = set()
        self._cuda = device.type == 'cuda'
        self._run: Callable = torch.compile(net, mode='reduce-overhead' if self._cuda else None)

    def begin_step(self) -> None:
        """Say that results of earlier steps are not read any more: CUDA graphs write into the same memory."""
        if self._cuda:
            torch.compiler.cudagraph_mark_step_begin()

    def __call__(self, *args: object, **options: object) -> object:
        """Run it; arguments and result as the network's."""
        kind = options.get('mode'), torch.is_grad_enabled()
        if kind not in self._proven and self._run is not self._net:
            self._prove(args, options)
            self._proven.add(kind)
        return self._run(*args, **options)

    def _prove(self, args: tuple, options: dict) -> None:
        """Compile forward and backward; twice, since CUDA graphs are recorded in the second call."""
        logger = get_root_logger()
        logger.info('Compiling the training step (one to a few minutes)')
        learned = [parameter for parameter in self._net.parameters() if parameter.requires_grad]
        buffers = {name: buffer.clone() for name, buffer in self._net.named_buffers()}
        try:
            generators = torch.random.fork_rng([self._device] if self._cuda else [])
            with generators, getattr(self._net, 'no_sync', nullcontext)():
                for _ in range(2):
                    self.begin_step()
                    results = [one for one in tree_leaves(self._run(*args, **options)) if isinstance(one, torch.Tensor)]
                    sums = [one.float().sum() for one in results if one.requires_grad]
                    if sums and learned:
                        torch.autograd.grad(sum(sums), learned, allow_unused=True)
        except Exception as error:  # whatever the compiler of this machine throws; the network itself throws it again
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            logger.warning(f'train.compile: cannot be done here, so training goes on without, only slower ({reason}).')
            self._run, self._cuda = self._net, False
        for name, buffer in self._net.named_buffers():  # statistics of batch normalization
            buffer.copy_(buffers[name])
