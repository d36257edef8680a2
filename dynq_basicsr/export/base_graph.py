"""A backbone as an ONNX graph in which every layer that the wrapper changed is one node that only has a name."""

from __future__ import annotations

import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from itertools import cycle

import onnx
import torch
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.symbolic import register_symbolics
from dynq_basicsr.export.tracing import Followed, with_deep_stack
from dynq_basicsr.numerics.attention import attention_in_parts
from dynq_basicsr.quantization.float_layers import FloatLayer
from dynq_basicsr.quantization.run import Mode, Run

DOMAIN, LAYER = 'dynq', 'Layer'
# The last one that torch's tracing exporter writes; graphs are then declared as OPSET, whose operators differ from it
# in the types that they take, no more.
TRACED_OPSET, OPSET = 20, 21
_PROBES = ((32, 48), (40, 24))  # sides of images; multiples of 8 suit every usual window, others are padded up


class _Mark(torch.autograd.Function):
    """Stands for a layer while the network is traced."""

    @staticmethod
    def forward(ctx, x: Tensor, run: Callable[[Tensor], Tensor], name: str, channels: int, axis: int) -> Tensor:
        return run(x)

    @staticmethod
    def symbolic(g, x, run: Callable[[Tensor], Tensor], name: str, channels: int, axis: int):
        result, rank = g.op(f'{DOMAIN}::{LAYER}', x, name_s=name), x.type().dim()
        if rank is not None:  # the exporter writes simpler graphs where it knows the number of channels
            sizes = [None] * rank
            sizes[axis] = channels
            result.setType(x.type().with_sizes(sizes))
        return result


def _float_twin(layer: nn.Module) -> nn.Module:
    """A float layer that gives results of the same shape."""
    if isinstance(layer, nn.Linear):
        return nn.utils.skip_init(nn.Linear, layer.in_features, layer.out_features).requires_grad_(False)
    geometry = {key: getattr(layer, key) for key in ('kernel_size', 'stride', 'padding', 'dilation', 'groups')}
    twin = nn.utils.skip_init(nn.Conv2d, layer.in_channels, layer.out_channels, **geometry)
    return twin.requires_grad_(False)


def _mark(layer: nn.Module, twins: Iterator[nn.Module], x: Tensor) -> Tensor:
    return _Mark.apply(x, next(twins).forward, layer.name, len(layer.weight), 1 if isinstance(layer, nn.Conv2d) else -1)


@contextmanager
def _marked(net: QuantizedSR) -> Iterator[None]:
    layers = [*net.quant_layers(), *net.precise_layers()]
    for layer in layers:
        # twins, since the tracer does not find the network's own parameters within the function, and one for each run,
        # since it does not find those of another run
        twins = [_float_twin(layer) for _ in range(max(net.plan.runs.get(layer.name, 1), 1))]
        layer.forward = partial(_mark, layer, cycle(twins))
    plain = [one for one in net.backbone.modules() if isinstance(one, FloatLayer) and one not in layers]
    for layer in plain:  # not by the faster of two ways, whose many nodes no runtime wants
        layer.forward = partial(super(FloatLayer, layer).forward)
    try:
        yield
    finally:
        for layer in (*layers, *plain):
            del layer.forward


class _Skeleton(nn.Module):
    """The backbone as it runs where the mode is exact; its marked layers need neither grids nor weights."""

    def __init__(self, net: QuantizedSR) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        self.net.holder.run = Run(Mode.EXACT, layers=len(self.net.quant_layers()))
        try:
            return self.net.run_backbone(image)
        finally:
            self.net.holder.clear()


class _Seen(Exception):
    """The head has run: nothing behind it matters."""


class _Logits(_Skeleton):
    """What the policy wants computed of the backbone's shallow feature."""

    def forward(self, image: Tensor) -> Tensor:
        seen: list[Tensor] = []

        def look(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
            seen.append(output)
            raise _Seen

        hook = self.net.backbone.get_submodule(self.net.plan.head).register_forward_hook(look)
        try:
            with suppress(_Seen):
                super().forward(image)
        finally:
            hook.remove()
        return self.net.policy.runtime_module(seen[0])


def trace_network(net: QuantizedSR, single: bool = False) -> onnx.ModelProto:
    """The backbone, (N, C, H, W) in [0, 1] -> (N, C', s * H, s * W), H and W free.

    Args:
        net: On the CPU, in eval mode. Its images are of right size: padding stays outside (``net.sizes``).
        single: N is 1 instead of free. Transformers want it that compute N from the number of windows.

    Returns:
        A model with input ``image`` and output ``result``; a quantized layer is a node of ``DOMAIN`` with the attribute
        ``name``.

    Raises:
        DynqError: If PyTorch cannot export the backbone.
    """
    return _trace(net, _Skeleton(net), 'result', {0: 'N', 2: 'H_out', 3: 'W_out'}, single)


def trace_controller(net: QuantizedSR) -> onnx.ModelProto:
    """The policy's ``runtime_module`` on the image: output ``logits`` (N, choices)."""
    return _trace(net, _Logits(net), 'logits', {0: 'N'})


def _trace(
    net: QuantizedSR, module: nn.Module, output: str, axes: dict[int, str], single: bool = False
) -> onnx.ModelProto:
    _check_modules(net)
    register_symbolics()
    free = {'image': {0: 'N', 2: 'H', 3: 'W'}, output: axes}
    if single:
        free = {name: {axis: size for axis, size in sizes.items() if axis} for name, sizes in free.items()}
    image = torch.rand(1 if single else 2, net.input_channels, *(net.sizes.padded(side) for side in _PROBES[0]))
    legacy = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    stream = io.BytesIO()

    def export() -> None:
        with _marked(net), torch.no_grad(), attention_in_parts(), Followed(), _quiet():
            torch.onnx.export(
                module.eval(), (image,), stream, input_names=['image'], output_names=[output],
                dynamic_axes=free, opset_version=TRACED_OPSET, custom_opsets={DOMAIN: 1}, **legacy,
            )  # fmt: skip

    try:
        with_deep_stack(export)
    except (RuntimeError, AssertionError, torch.onnx.errors.OnnxExporterError) as error:
        reason = ' '.join(str(error).split()).partition(' Please feel free')[0].rstrip('.')[:200]
        raise DynqError(f'{type(net.backbone).__name__}: PyTorch cannot write it as ONNX ({reason}).') from error
    return onnx.load_from_string(stream.getvalue())


def _check_modules(net: QuantizedSR) -> None:
    """Refuse modules that no graph stands for.

    Raises:
        DynqError: Names the first one.
    """
    for name, module in net.backbone.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise DynqError(
                f'{name}: {type(module).__name__} without running statistics, so that the result for an image depends '
                'on the others of its batch; set track_running_stats, or export another network.'
            )


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stdout and stderr: the exporter prints graphs and warns of nodes that it knows not, from C++ too."""
    logger, level = logging.getLogger('torch.onnx'), logging.getLogger('torch.onnx').level
    kept = {}
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), open(os.devnull, 'w') as nothing, redirect_stdout(nothing):
            warnings.simplefilter('ignore')
            for file in (1, 2):
                kept[file] = os.dup(file)
                os.dup2(nothing.fileno(), file)
            yield
    finally:
        for file, copy in kept.items():
            os.dup2(copy, file)
            os.close(copy)
        logger.setLevel(level)


@torch.no_grad()
def resolutions(net: QuantizedSR) -> dict[str, int]:
    """How many times the image's resolution the inputs of convolutions that the wrapper changed have.

    Returns:
        Layer -> factor; layers without a whole factor that holds for every image are missing.
    """
    found: dict[str, set[float]] = {}
    layers = [layer for layer in (*net.quant_layers(), *net.precise_layers()) if isinstance(layer, nn.Conv2d)]
    for sides in _PROBES:
        image = torch.zeros(1, net.input_channels, *(net.sizes.padded(side) for side in sides))

        def note(layer: nn.Conv2d, inputs: tuple, image: Tensor = image) -> None:
            # the sample axis too: windows may lie on it
            found.setdefault(layer.name, set()).update(
                inputs[0].shape[dim] / image.shape[dim] * len(inputs[0]) for dim in (2, 3)
            )

        hooks = [layer.register_forward_pre_hook(note) for layer in layers]
        try:
            net.run_backbone(image)
        finally:
            for hook in hooks:
                hook.remove()
    return {name: int(*ratios) for name, ratios in found.items() if len(ratios) == 1 and min(ratios) % 1 == 0}
