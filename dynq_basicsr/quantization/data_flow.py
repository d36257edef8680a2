"""What flows where in a network: the operators and layers of one forward, and which operands only steer others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from dynq_basicsr.numerics.attention import attention_in_parts

LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.BatchNorm2d)
# Results between 0 and 1, or -1 and 1, by which features are weighted.
_GATES = ('sigmoid', 'hardsigmoid', 'tanh', '_softmax', '_safe_softmax')
# Operator -> its factors, by place.
_PRODUCTS = {'mul': (0, 1), 'addcmul': (1, 2)}
_MATRIX_PRODUCTS = {'mm': (0, 1), 'bmm': (0, 1), 'addmm': (1, 2), 'baddbmm': (1, 2)}
# Operator -> operands that say where the first one is read, or what it is filtered with.
_STEERED = {'grid_sampler_2d': (1,), 'convolution': (1,), 'deform_conv2d': (2, 3)}
_FUSED_ATTENTION = '_scaled_dot_product'
_MIXING = (_FUSED_ATTENTION, 'convolution', 'native_')


class Edge(Enum):
    """What an operand does in its operator.

    Attributes:
        FLOW: Its values go on.
        GATE: It weights another one, whose values go on.
        CHOICE: It says which of another one's values go on, or where.
        ATTENTION: A factor of a product of matrices that both follow the image.
    """

    FLOW = 'flow'
    GATE = 'gate'
    CHOICE = 'choice'
    ATTENTION = 'attention'


@dataclass(frozen=True)
class Step:
    """One operator, or one run of a layer, whose result follows the image.

    Attributes:
        sources: The steps that it reads, each once, and what for.
        shape: Of its (first) result.
        layer: Name of the layer; empty: an operator.
        read: Shape of a layer's input.
        mixes: Whether it adds up products of what it reads, as layers do; what it gives is of another kind then.
        gate: Whether its values are weights: they come from a sigmoid, a softmax or a tanh, and nothing mixed them.
    """

    sources: dict[int, Edge]
    shape: tuple[int, ...]
    layer: str = ''
    read: tuple[int, ...] = ()
    mixes: bool = False
    gate: bool = False


@dataclass
class DataFlow:
    """One forward of a network; steps are numbered in the order of execution, 0 is the image.

    Attributes:
        steps: All that follows the image.
        results: The steps that the network's result consists of.
    """

    steps: list[Step] = field(default_factory=list)
    results: set[int] = field(default_factory=set)

    def runs(self) -> dict[str, list[int]]:
        """The steps of each layer that ran, by name, in the order of execution."""
        found: dict[str, list[int]] = {}
        for index, step in enumerate(self.steps):
            if step.layer:
                found.setdefault(step.layer, []).append(index)
        return found

    def before(self, ends: Iterable[int], edges: Iterable[Edge]) -> set[int]:
        """Steps from which a path over edges of these kinds leads to one of ``ends``, themselves included."""
        kinds, reached = set(edges), set(ends)
        for index in range(len(self.steps) - 1, -1, -1):
            if index in reached:
                reached.update(source for source, edge in self.steps[index].sources.items() if edge in kinds)
        return reached

    def behind(self, starts: Iterable[int], edges: Iterable[Edge], around: Iterable[int] = ()) -> set[int]:
        """Steps to which a path over edges of these kinds leads from one of ``starts``, another one's or none.

        Paths go around the steps ``around``.
        """
        kinds, starts, around, reached = set(edges), set(starts), set(around), set()
        for index, step in enumerate(self.steps):
            sources = (source for source, edge in step.sources.items() if edge in kinds and source not in around)
            if any(source in starts or source in reached for source in sources):
                reached.add(index)
        return reached

    def readers(self) -> dict[int, list[int]]:
        """The steps that read each step."""
        found: dict[int, list[int]] = {}
        for index, step in enumerate(self.steps):
            for source in step.sources:
                found.setdefault(source, []).append(index)
        return found

    def attention_inputs(self) -> set[int]:
        """Runs of layers whose result alone, reshaped, scaled or the like, is a factor of attention's products."""
        found, readers = set(), self.readers()
        for start in (index for index, step in enumerate(self.steps) if step.layer):
            waiting = [start]
            while waiting and start not in found:
                index = waiting.pop()
                for reader in readers.get(index, ()):
                    step = self.steps[reader]
                    if step.sources[index] is Edge.ATTENTION:
                        found.add(start)
                    elif not step.mixes and len(step.sources) == 1:
                        waiting.append(reader)
        return found


@torch.no_grad()
def trace(net: nn.Module, image: Tensor) -> DataFlow:
    """Run a float network once, in eval mode, and note what flows where.

    Args:
        net: The network; its modes are restored, nothing stays behind on it.
        image: (N, C, H, W), of sides that it takes.
    """
    recorder = _Recorder(image)
    with evaluating(net), attention_in_parts():
        hooks = [hook for name, module in net.named_modules() for hook in recorder.watch(name, module)]
        try:
            with recorder:
                result = net(image)
        finally:
            for hook in hooks:
                hook.remove()
    flow = recorder.flow
    flow.results = {index for one in tensors(result) for index in recorder.steps_of(one)}
    return flow


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into eval mode; afterwards each module has its own mode again."""
    modes = {module: module.training for module in net.modules()}
    try:
        net.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def tensors(values: object) -> list[Tensor]:
    """All tensors in nested lists, tuples and mappings, in order."""
    return [one for one in tree_leaves(values) if isinstance(one, Tensor)]


class _Recorder(TorchDispatchMode):
    """Sees every operator, whoever calls it; tensors that no step made are constants, weights for example."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.flow = DataFlow([Step({}, tuple(image.shape))])
        self._made = WeakTensorKeyDictionary()  # tensor -> its newest step
        self._written: dict[int, int] = {}  # memory -> the newest step that wrote into it in place
        self._made[image] = 0
        self._within = 0

    def watch(self, name: str, module: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
        """Hooks that let a layer count as one step, whatever happens within it."""
        if not isinstance(module, LAYERS):
            return []

        def enter(module: nn.Module, inputs: tuple) -> None:
            self._within += 1

        def leave(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            self._within -= 1
            sources = self.steps_of(inputs[0])
            if not self._within:
                self._written.pop(_memory(output), None)
                if sources:
                    edges, shapes = dict.fromkeys(sources, Edge.FLOW), (tuple(output.shape), tuple(inputs[0].shape))
                    self._note(Step(edges, shapes[0], name, shapes[1], mixes=True), output)

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def steps_of(self, tensor: Tensor) -> set[int]:
        """The steps that a tensor's values come from."""
        found = {self._made.get(tensor), self._written.get(_memory(tensor))}
        return {index for index in found if index is not None}

    def _note(self, step: Step, tensor: Tensor) -> None:
        self.flow.steps.append(step)
        self._made[tensor] = len(self.flow.steps) - 1

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None):
        """Run an operator and note what it read."""
        result = func(*args, **(kwargs or {}))
        if self._within:
            return result
        operands = tensors((args, kwargs))
        read = {index for one in operands for index in self.steps_of(one)}
        memories = {_memory(one) for one in operands}
        name = func.overloadpacket.__name__.removesuffix('_')
        for one in tensors(result):
            memory = _memory(one)
            if memory not in memories:  # an earlier tensor, which is gone, may have lain there
                self._written.pop(memory, None)
            if read:
                self._note(self._step(name, args, read, one), one)
                if any(one is operand for operand in operands):
                    self._written[memory] = len(self.flow.steps) - 1
        if read and not tensors(result):  # a number that Python reads
            self.flow.steps.append(Step(dict.fromkeys(read, Edge.CHOICE), ()))
        return result

    def _step(self, name: str, args: tuple, read: set[int], result: Tensor) -> Step:
        steps, edges = self.flow.steps, dict.fromkeys(read, Edge.FLOW)
        gates = [steps[index].gate for index in read]

        def sources(place: int) -> set[int]:
            one = args[place] if place < len(args) else None
            return self.steps_of(one) if isinstance(one, Tensor) else set()

        if name in _PRODUCTS:
            factors = [sources(place) for place in _PRODUCTS[name]]
            for index in self._gates(*factors):
                edges[index] = Edge.GATE
        elif name in _MATRIX_PRODUCTS or name.startswith(_FUSED_ATTENTION):
            factors = [sources(place) for place in _MATRIX_PRODUCTS.get(name, (0, 1, 2))]
            if all(factors):
                edges |= dict.fromkeys(set.union(*factors), Edge.ATTENTION)
            else:  # weights of learned entries are attention, too
                edges |= {one: Edge.ATTENTION for factor in factors for one in factor if steps[one].gate}
        elif name in _STEERED:
            steering = set().union(*map(sources, _STEERED[name])) - sources(0)
            edges |= dict.fromkeys(steering, Edge.CHOICE)
        for one in tensors(args):
            if not one.is_floating_point() and not one.is_complex():  # indices and masks pick
                edges |= dict.fromkeys(self.steps_of(one), Edge.CHOICE)
        mixes = name in _MATRIX_PRODUCTS or name.startswith(_MIXING)
        return Step(edges, tuple(result.shape), mixes=mixes, gate=name in _GATES or (all(gates) and not mixes))

    def _gates(self, one: set[int], other: set[int]) -> set[int]:
        """The factors of a product, element by element, that weight the other one.

        That is the one that comes from a sigmoid or the like; else the one that is computed from the other, as
        ``attention(x)`` in ``x * attention(x)``; else a smaller one; else both, as in a simple gate.
        """
        if not one or not other or one == other:
            return set()
        steps = self.flow.steps
        gates = [all(steps[index].gate for index in factor) for factor in (one, other)]
        if all(gates):
            return set()
        if any(gates):
            return (one, other)[gates.index(True)] - (one, other)[gates.index(False)]
        for early, late in ((one, other), (other, one)):
            if self._leads(early, late):
                return late - early
        sizes = [max(torch.Size(steps[index].shape).numel() for index in factor) for factor in (one, other)]
        if sizes[0] != sizes[1]:
            return (one, other)[sizes.index(min(sizes))]
        return one | other

    def _leads(self, early: set[int], late: set[int]) -> bool:
        """Whether ``late`` is computed from ``early``, in whatever way."""
        first, waiting, seen = min(early), set(late), set()
        while waiting:
            index = waiting.pop()
            if index in early:
                return True
            seen.add(index)
            waiting |= {source for source in self.flow.steps[index].sources if source >= first} - seen
        return False


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr() if tensor.layout == torch.strided else id(tensor)
