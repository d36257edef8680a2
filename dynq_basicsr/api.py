"""The three lines of Python: quantize, load, and what they return."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from dynq_basicsr.errors import DynqError, shown
from dynq_basicsr.runtime.locate import checkpoint_of, is_checkpoint
from dynq_basicsr.settings import Settings, taking

if TYPE_CHECKING:
    from torch import device as Device
    from torch import nn

    from dynq_basicsr.runtime.model import FrozenModel
    from dynq_basicsr.workflow.quantized import Quantized


@taking(Settings)
def quantize(settings: Settings) -> Quantized:
    """Quantize a trained super-resolution network, without ground truth.

    Args:
        model: A checkpoint (BasicSR's, ours, a community file) or a network that maps (N, C, H, W) to
            (N, C', sH, sW); a network is copied, not changed.
        images: What it shall be good at, at low resolution: a folder or files, arrays (H, W, 3), images of Pillow,
            tensors (C, H, W), of whole numbers or in [0, 1], or a loader. A fifth of them, five at most, is left out to
            show how well the result agrees.
        bits: Base bits of activations, 2..8; content moves them by one up or down.
        weight_bits: Of weights, 2..8; None: ``bits``.
        method: ``adabm`` (Hong and Lee, CVPR 2024), or a baseline: ``minmax``, ``percentile``, ``ptq4sr``.
        recipe: Of the method: ``fast``, ``plus`` or ``paper``; None: its first.
        scope: ``body``: head, upsampler and tail stay float; ``full``: they get 8 bits.
        calibration: How many images to calibrate with at most.
        device: ``auto``, ``cpu``, ``cuda``, ...
        arch: Architecture and options, ``{'type': 'EDSR', 'num_in_ch': 3, ...}``, of a checkpoint that is not
            recognised.
        scale: The enlargement, where nothing in the checkpoint tells it.
        value_range: What the network takes for white, a positive number, as 1 or 255; None: found by trying.
        output: Which entry of a tuple or dict that the network returns is the image; None: found by trying.
        plugins: Files or modules that register architectures of yours.
        seed: Of the choice of images and crops.
        work: A file that keeps what is done so far, so that a call that was interrupted goes on when it is made again.
            It is yours to remove, once the result is saved.
        exports: Find out first whether the network can be exported, and warn if it cannot: ``q.report['refusal']``.

    Returns:
        The network, ready to run: ``q(lr)``, ``q.save(path)``, ``q.export(folder)``, ``q.report``.

    Raises:
        DynqError: One sentence about what does not fit.
    """
    _start(settings.plugins)
    from dynq_basicsr.workflow.make import make

    return make(settings)


def load(
    path: str | PathLike[str],
    *,
    model: nn.Module | None = None,
    device: str | Device = 'auto',
    plugins: Sequence[str | PathLike[str]] = (),
    runtime: str = 'onnxruntime',
    threads: int | None = None,
    patch: int | None = None,
) -> Quantized | FrozenModel:
    """Load a quantized network.

    Args:
        path: A model folder, which runs without PyTorch; or what runs in PyTorch: a checkpoint of ``q.save`` or of a
            training, or a folder of ``dynq quantize`` without graphs.
        model: The float network that the checkpoint was made from, where that was given as a module.
        device: Of a checkpoint.
        plugins: As for ``quantize``.
        runtime: Of a model folder: ``onnxruntime`` or ``openvino``.
        threads: Of a model folder; None: all cores.
        patch: Side of the patches that bits are chosen for, LR pixels; 0: whole images; None: as the folder says, 96 of
            a checkpoint.

    Returns:
        Something with ``upscale(image)``.

    Raises:
        DynqError: If it is neither, damaged, or does not fit ``model``.
    """
    path = Path(path)
    if not is_checkpoint(path):
        from dynq_basicsr.runtime.model import FrozenModel

        return FrozenModel(path, runtime, threads, patch)
    _start(plugins)
    from dynq_basicsr.workflow.restore import restore

    return restore(checkpoint_of(path), model, device, patch)


def _start(plugins: Sequence[str | PathLike[str]]) -> None:
    """BasicSR, the plugin and what the user brings."""
    from dynq_basicsr.doctor.require import require_basicsr

    if isinstance(plugins, str | PathLike):
        raise DynqError(f'plugins: must be a list of files and modules; write [{shown(str(plugins))}].')
    require_basicsr()
    from dynq_basicsr.registration import register

    register(plugins)
