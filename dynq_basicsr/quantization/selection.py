"""Which layers to quantize: patterns from an option file or a profile, or a rule that needs neither."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dynq_basicsr.errors import DynqError, nearest
from dynq_basicsr.quantization.layers import QUANTIZED_CLASSES

# Side of the square that the generic rule sends through the network, in pixels: a multiple of every usual window size.
PROBE_SIZE = 64


def select_layers(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Resolve patterns to the names of convolutions and linear layers, in module order.

    A pattern is the exact name of a module, the class name of modules, or ``re:`` and a regular expression for whole
    names. A module that is no layer itself stands for every layer inside it.

    Args:
        model: The network.
        patterns: The patterns; each must match something.

    Raises:
        DynqError: If a pattern matches nothing; names near module and class names.
    """
    modules = dict(model.named_modules())
    chosen = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise DynqError(f'quantization: a pattern must be text, not {pattern!r}.')
        matched = [name for name, module in modules.items() if _matches(pattern, name, module)]
        layers = {inner for name in matched for inner in _layers_under(modules, name)}
        if not layers:
            candidates = [name for name in modules if name] + sorted({type(m).__name__ for m in modules.values()})
            raise DynqError(
                f'quantization: the pattern {pattern!r} matches no convolution or linear layer of '
                f'{type(model).__name__}.{nearest(pattern.removeprefix("re:"), candidates)}'
            )
        chosen |= layers
    return [name for name in modules if name in chosen]


def select_modules(model: nn.Module, patterns: Iterable[str]) -> list[str]:
    """Names of the modules that the patterns of ``select_layers`` match, whatever their kind, in module order."""
    return [name for name, m in model.named_modules() if any(_matches(pattern, name, m) for pattern in patterns)]


def _matches(pattern: str, name: str, module: nn.Module) -> bool:
    if pattern.startswith('re:'):
        try:
            return re.fullmatch(pattern[3:], name) is not None
        except re.error as error:
            raise DynqError(f'quantization: {pattern!r} is not a regular expression: {error}.') from error
    return pattern in (name, type(module).__name__) and name != ''


def _layers_under(modules: dict[str, nn.Module], name: str) -> list[str]:
    return [
        inner
        for inner, module in modules.items()
        if (inner == name or inner.startswith(f'{name}.')) and type(module) in QUANTIZED_CLASSES
    ]


def generic_layers(model: nn.Module, in_channels: int) -> list[str]:
    """Choose layers without knowing the architecture.

    The rule: every convolution that works at the input's resolution, except the first one that runs (the head) and the
    last (it feeds the upsampler or is the tail). Convolutions of pooled features (channel attention) and behind the
    upsampler work at other resolutions, linear layers may be attention: all of them stay float.

    Args:
        model: The network; run once on zeros.
        in_channels: Channels of the image it takes.

    Raises:
        DynqError: If fewer than three convolutions qualify.
    """
    sides = _sides_of_convolutions(model, in_channels, PROBE_SIZE)
    executed = [name for name, seen in sides.items() if seen == {PROBE_SIZE}]
    if len(executed) < 3:
        raise DynqError(
            f'quantization: no rule fits {type(model).__name__}, which has {len(executed)} convolutions at the input '
            'resolution; name its layers in network_g.quantization.layers.'
        )
    chosen = set(executed[1:-1])
    return [name for name, _ in model.named_modules() if name in chosen]


def first_convolution(model: nn.Module, in_channels: int, multiple: int = 1) -> str:
    """Name of the convolution that runs first, whatever the order in which layers were registered.

    Args:
        model: The network; run once on zeros.
        in_channels: Channels of the image it takes.
        multiple: Of what the sides of an image must be multiples, in pixels.

    Raises:
        DynqError: If none runs.
    """
    name = next(iter(_sides_of_convolutions(model, in_channels, _probe_size(multiple))), None)
    if name is None:
        raise DynqError(f'network_g.backbone: {type(model).__name__} has no convolution; choose another.')
    return name


def end_layers(model: nn.Module, in_channels: int, body: Iterable[str], multiple: int = 1) -> list[str]:
    """Choose head, upsampler and tail without knowing the architecture.

    The rule: every convolution outside the body that works at the input's resolution or above. Convolutions of pooled
    features and linear layers may be attention and stay float, and so do transposed convolutions.

    Args:
        model: The network; run once on zeros.
        in_channels: Channels of the image it takes.
        body: Names of the layers that are chosen already.
        multiple: Of what the sides of an image must be multiples, in pixels.
    """
    size = _probe_size(multiple)
    sides, taken = _sides_of_convolutions(model, in_channels, size), set(body)
    return [name for name, _ in model.named_modules() if name not in taken and min(sides.get(name, {0})) >= size]


def _probe_size(multiple: int) -> int:
    return -(-PROBE_SIZE // multiple) * multiple


@torch.no_grad()
def _sides_of_convolutions(model: nn.Module, in_channels: int, size: int) -> dict[str, set[int]]:
    """Sides of what convolutions read and write while a square of ``size`` runs through, in order of execution."""
    sides: dict[str, set[int]] = {}

    def note(name: str, inputs: tuple, output: Tensor) -> None:
        sides.setdefault(name, set()).update(inputs[0].shape[-2:], output.shape[-2:])

    _probe(model, [name for name, m in model.named_modules() if type(m) is nn.Conv2d], note, in_channels, size)
    return sides


class _Reads(TorchDispatchMode):
    """Counts how many operators read each tensor, whoever calls them, with a gradient or without."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Count and go on."""
        self.counts.update(id(one) for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def batch_norms_behind(
    model: nn.Module, names: Iterable[str], in_channels: int, multiple: int = 1
) -> dict[str, str]:
    """Which convolutions have a batch normalization as the only reader of their result; each of the two runs once.

    Args:
        model: The network; run once on zeros if it has any batch normalization.
        names: Of the layers in question.
        in_channels: Channels of the image it takes.
        multiple: Of what the sides of an image must be multiples, in pixels.

    Returns:
        Name of the convolution -> that of its batch normalization, which has running statistics.
    """
    modules = dict(model.named_modules())
    norms = [name for name, m in modules.items() if type(m) is nn.BatchNorm2d and m.running_var is not None]
    names = [name for name in names if isinstance(modules[name], nn.Conv2d)]
    if not norms:
        return {}
    seen: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    reads = _Reads()

    def note(name: str, inputs: tuple, output: Tensor) -> None:
        seen[name].append((inputs[0], output))  # kept, so that no later tensor gets its id
        reads.counts[id(output)] = 0  # an earlier one may have had it

    with reads:
        _probe(model, [*names, *norms], note, in_channels, _probe_size(multiple))
    once = {name: found[0] for name, found in seen.items() if len(found) == 1}
    readers = {id(once[name][0]): name for name in norms if name in once}
    results = {name: id(once[name][1]) for name in names if name in once}
    return {
        name: readers[result] for name, result in results.items() if result in readers and reads.counts[result] == 1
    }


def _probe(
    model: nn.Module, names: Iterable[str], note: Callable[[str, tuple, Tensor], None], in_channels: int, size: int
) -> None:
    """Run a square of zeros through a network in eval mode; tell of each named module's inputs and output."""
    modules = dict(model.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda module, inputs, output, name=name: note(name, inputs, output))
        for name in names
    ]
    training = model.training
    try:
        model.eval()(next(model.parameters()).new_zeros(1, in_channels, size, size))
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()


def feature_taps(names: Sequence[str]) -> list[str]:
    """Name the modules whose outputs stand for the network's features: one tap a block.

    They are the children of the innermost module that holds all given layers, those that hold at least one: the
    residual blocks of EDSR, the residual groups of RCAN, the RSTBs of SwinIR. Layers of a network without modules for
    its blocks stand for themselves.

    Args:
        names: Names of the layers in question; none gives no tap.
    """
    if not names:
        return []
    paths = [name.split('.') for name in names]
    depth = 0
    while all(len(path) > depth + 1 and path[depth] == paths[0][depth] for path in paths):
        depth += 1
    return list(dict.fromkeys('.'.join(path[: depth + 1]) for path in paths))
