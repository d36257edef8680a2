"""A network on a small image as it will run while it is calibrated: what cannot work is found before that begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.data_flow import evaluating
from dynq_basicsr.quantization.selection import PROBE_SIZE

_BATCH = 2


class InTrainingForm:
    """A module that runs as in training mode, its parts in their own modes; mixed into its class.

    For modules that write into their input in evaluation mode, to save memory, and make a copy in training mode.
    """

    def forward(self, *args, **kwargs):
        """As the plain module's in training mode."""
        training, self.training = self.training, True
        try:
            return super().forward(*args, **kwargs)
        finally:
            self.training = training


@cache
def _in_training_form(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (InTrainingForm, kind), {'__module__': kind.__module__})


def rehearse(net: QuantizedSR, gradient: bool) -> None:
    """Run the float network on two small images in evaluation mode, and backwards.

    Modules that keep gradients from passing because they write into their input are given their training form, if
    that gives the same.

    Args:
        net: The network, with its weights.
        gradient: Whether it is to be fine-tuned.

    Raises:
        DynqError: If it takes no batch, changes its own weights, or no gradient passes.
    """
    name = type(net.backbone).__name__
    like = next(net.backbone.parameters())
    side = net.sizes.padded(PROBE_SIZE)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(_BATCH, net.input_channels, side, side, generator=generator).to(like)
    with evaluating(net):
        expected = _run(net, images, name)
        if not gradient or _passes(net, images):
            return
        for module in _writing(net, images):
            plain, module.__class__ = type(module), _in_training_form(type(module))
            if not torch.allclose(_run(net, images, name), expected, rtol=1e-4, atol=1e-5):
                module.__class__ = plain
        if not _passes(net, images):
            raise DynqError(
                f'{name}: no gradient passes through it in evaluation mode, as where it writes into tensors in place '
                'or runs without gradients, so it cannot be fine-tuned; take a method that only calibrates (minmax, '
                'percentile), or write its forward without that.'
            )


@torch.no_grad()
def _run(net: QuantizedSR, images: Tensor, name: str) -> Tensor:
    """What it makes of the images; its quantized layers have the same weights afterwards."""
    weights = {layer.name: (layer.weight.data_ptr(), layer.weight._version) for layer in net.quant_layers()}
    try:
        result = net.run_backbone(images)
    except Exception as error:  # whatever a stranger's code raises
        reason = ' '.join(str(error).split()).rstrip('.')[:160]
        raise DynqError(
            f'{name}: fails on two images at once, which calibration needs, with {type(error).__name__} ({reason}); '
            'write its forward for batches.'
        ) from error
    for layer in net.quant_layers():
        if weights[layer.name] != (layer.weight.data_ptr(), layer.weight._version):
            raise DynqError(
                f'{layer.name}: its weight is written anew whenever {name} runs, so it cannot be quantized; merge the '
                'branches that it comes from first, or name it in quantization.exclude.'
            )
    return result


def _passes(net: QuantizedSR, images: Tensor) -> bool:
    """Whether every weight of a quantized layer can get a gradient."""
    with _learning(net.backbone), torch.enable_grad():
        result = net.run_backbone(images)
        try:
            gradients = torch.autograd.grad(
                result.square().mean(), [layer.weight for layer in net.quant_layers()], allow_unused=True
            )
        except RuntimeError:
            return False
    return any(one is not None for one in gradients)


@contextmanager
def _learning(net: nn.Module) -> Iterator[None]:
    frozen = [one for one in net.parameters() if one.is_floating_point() and not one.requires_grad]
    try:
        for parameter in frozen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _writing(net: QuantizedSR, images: Tensor) -> list[nn.Module]:
    """Modules, not PyTorch's own, that write into their input, those within others first."""
    before: dict[nn.Module, int] = {}
    found: dict[nn.Module, None] = {}

    def enter(module: nn.Module, inputs: tuple) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            before[module] = inputs[0]._version

    def leave(module: nn.Module, inputs: tuple, output: object) -> None:
        if module in before and inputs[0]._version > before.pop(module):
            found[module] = None

    hooks = []
    for module in net.backbone.modules():
        if not type(module).__module__.startswith('torch.'):
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with torch.no_grad():
            net.run_backbone(images)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found)
