"""A backbone as an ONNX graph in which every layer that the wrapper changed is one node that only has a name."""

from __future__ import annotations

import inspect
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import onnx
import torch
from torch import Tensor, nn

from dynq_basicsr.archs.arch_options import input_channels
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.deploy.symbolic import register_symbolics
from dynq_basicsr.errors import DynqError
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
        result, sizes = g.op(f'{DOMAIN}::{LAYER}', x, name_s=name), x.type().sizes()
        if sizes is not None:  # the exporter writes simpler graphs where it knows the number of channels
            sizes = [None] * len(sizes)
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


@contextmanager
def _marked(net: QuantizedSR) -> Iterator[None]:
    layers = [*net.quant_layers(), *net.precise_layers()]
    for layer in layers:
        # a twin, since the tracer does not find the network's own parameters within the function
        run = _float_twin(layer).forward
        mark = run, layer.name, len(layer.weight), 1 if isinstance(layer, nn.Conv2d) else -1
        layer.forward = lambda x, mark=mark: _Mark.apply(x, *mark)
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
            return self.net.backbone(image)
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
    register_symbolics()
    free = {'image': {0: 'N', 2: 'H', 3: 'W'}, output: axes}
    if single:
        free = {name: {axis: size for axis, size in sizes.items() if axis} for name, sizes in free.items()}
    image = torch.rand(1 if single else 2, image_channels(net), *(net.sizes.padded(side) for side in _PROBES[0]))
    legacy = {'dynamo': False} if 'dynamo' in inspect.signature(torch.onnx.export).parameters else {}
    stream = io.BytesIO()
    try:
        with _marked(net), torch.no_grad(), _quiet():
            torch.onnx.export(
                module.eval(), (image,), stream, input_names=['image'], output_names=[output],
                dynamic_axes=free, opset_version=TRACED_OPSET, custom_opsets={DOMAIN: 1}, **legacy,
            )  # fmt: skip
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise DynqError(f'{type(net.backbone).__name__}: PyTorch cannot write it as ONNX ({reason}).') from error
    return onnx.load_from_string(stream.getvalue())


@contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on stderr: the exporter warns of every node that it does not know, from C++ too."""
    logger, level = logging.getLogger('torch.onnx'), logging.getLogger('torch.onnx').level
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), open(os.devnull, 'w') as nothing:
            warnings.simplefilter('ignore')
            os.dup2(nothing.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        logger.setLevel(level)


def image_channels(net: QuantizedSR) -> int:
    """Channels of the image that a network takes."""
    return input_channels(net.backbone, net.description['backbone'])


@torch.no_grad()
def resolutions(net: QuantizedSR) -> dict[str, int]:
    """How many times the image's resolution the inputs of convolutions that the wrapper changed have.

    Returns:
        Layer -> factor; layers without a whole factor that holds for every image are missing.
    """
    found: dict[str, set[float]] = {}
    layers = [layer for layer in (*net.quant_layers(), *net.precise_layers()) if isinstance(layer, nn.Conv2d)]
    for sides in _PROBES:
        image = torch.zeros(1, image_channels(net), *(net.sizes.padded(side) for side in sides))

        def note(layer: nn.Conv2d, inputs: tuple, image: Tensor = image) -> None:
            # the sample axis too: windows may lie on it
            found.setdefault(layer.name, set()).update(
                inputs[0].shape[dim] / image.shape[dim] * len(inputs[0]) for dim in (2, 3)
            )

        hooks = [layer.register_forward_pre_hook(note) for layer in layers]
        try:
            net.backbone(image)
        finally:
            for hook in hooks:
                hook.remove()
    return {name: int(*ratios) for name, ratios in found.items() if len(ratios) == 1 and min(ratios) % 1 == 0}
