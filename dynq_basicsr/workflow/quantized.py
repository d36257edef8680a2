"""A quantized network as an object of Python: call it, look at its bits, save it, export it."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.deploy.manifest import NAME
from dynq_basicsr.deploy.pictures import as_picture, to_grey
from dynq_basicsr.doctor.require import require
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.tiling import finite, run_tiled
from dynq_basicsr.patch_grid import TilingOptions, tile_boxes
from dynq_basicsr.quantization.cost import NetworkCost, measure_cost
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.quantization.usage import BitUsage
from dynq_basicsr.training.saving import save_atomically
from dynq_basicsr.workflow.pictures import as_float

if TYPE_CHECKING:
    from dynq_basicsr.deploy.freeze import Exported

# A network knows one run at a time.
_ONE_RUN = threading.Lock()


class Quantized:
    """A calibrated network, run patch by patch so that bits follow the content.

    Args:
        network: The network; ``q.network`` is an ordinary ``nn.Module``.
        tiling: Where patches lie.
        report: What its making tells: ``found``, ``seconds``, ``psnr``, ``bits`` and more; empty for a loaded one.
    """

    def __init__(
        self, network: QuantizedSR, tiling: TilingOptions | None = None, report: dict[str, object] | None = None
    ) -> None:
        self.network, self.tiling, self.report = network.eval(), tiling or TilingOptions(), report or {}
        self._cost: NetworkCost | None = None

    @property
    def channels(self) -> int:
        """Of the images it takes: 3 (RGB) or 1 (luma, grey)."""
        return self.network.input_channels

    def __repr__(self) -> str:
        net, options = self.network, self.network.quantization
        return (
            f'Quantized({type(net.backbone).__name__} x{net.scale}, W{options.weight.bits}A{options.activation.bits}, '
            f'{type(net.policy).__name__})'
        )

    def __call__(self, lr: Tensor | np.ndarray | str | Path) -> Tensor | np.ndarray:
        """Super-resolve images.

        Args:
            lr: (N, C, H, W) or (C, H, W) in [0, 1], a tensor; or what ``upscale`` takes.

        Returns:
            A tensor in [0, 1] for a tensor, else an array; ``scale`` times as high and wide.

        Raises:
            DynqError: If it is no image that the network takes.
        """
        if not isinstance(lr, Tensor):
            return self.upscale(lr)
        if lr.ndim == 3:
            return self(lr[None])[0]
        if lr.ndim != 4 or not lr.is_floating_point() or 0 in lr.shape:
            raise DynqError(f'a tensor must be (N, C, H, W), float in [0, 1], not {lr.dtype} {tuple(lr.shape)}.')
        if lr.max() > 1.01 or lr.min() < -0.01:
            raise DynqError('a tensor must lie in [0, 1]; divide it by 255.')
        return torch.cat([self._run(one[None])[0] for one in lr])

    @torch.no_grad()
    def _run(
        self, image: Tensor, mode: Mode = Mode.EXACT, tiling: TilingOptions | None = None
    ) -> tuple[Tensor, BitUsage]:
        net, tiling = self.network, tiling or self.tiling
        image = image.to(next(net.parameters()).device, torch.float32)
        if image.shape[1] != self.channels:
            raise DynqError(f'the network takes images of {self.channels} channels, not {image.shape[1]}.')
        with _ONE_RUN:
            self._cost = self._cost or measure_cost(net, self.channels)
        height, width = image.shape[-2:]
        usage = BitUsage(self._cost, tile_boxes(height, width, tiling), height, width, static=net.static_bits())

        def run(patches: Tensor, indices: list[int]) -> Tensor:
            result, bits, _ = net(patches, mode=mode, details=True)
            if mode is not Mode.FLOAT:
                usage.add(indices, net.plan.adaptive, bits)
            return finite(result)

        with _ONE_RUN:
            return run_tiled(image, tiling, run).clamp(0, 1), usage

    def upscale(self, image: np.ndarray | str | Path) -> np.ndarray:
        """Super-resolve a picture.

        Args:
            image: (H, W, 3) RGB or (H, W) grey, uint8; or a file.

        Returns:
            uint8, ``scale`` times as high and wide, with as many channels.
        """
        return self._upscale(image, Mode.EXACT)

    def reference(self, image: np.ndarray | str | Path) -> np.ndarray:
        """What the float network makes of a picture; see ``upscale``."""
        return self._upscale(image, Mode.FLOAT)

    def _upscale(self, image: np.ndarray | str | Path, mode: Mode) -> np.ndarray:
        pixels, grey = self._pixels(image)
        result, _ = self._run(pixels, mode)
        result = result[0].mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
        if not grey:
            return result
        return result[..., 0] if result.shape[2] == 1 else to_grey(result)[..., 0]

    def bits(self, image: np.ndarray | str | Path) -> BitUsage:
        """The bits of every patch and layer that a picture used."""
        return self._run(self._pixels(image)[0])[1]

    def bit_map(self, image: np.ndarray | str | Path, path: str | Path, patch: int | None = None) -> BitUsage:
        """Write a picture of the bits that an image used.

        Args:
            image: As ``upscale`` takes it.
            path: The PNG file.
            patch: Side of the patches that bits are chosen for, LR pixels; None: as everywhere.

        Returns:
            The bits.
        """
        require('matplotlib')
        from dynq_basicsr.report.bit_map import save_bit_map  # which takes half a second

        pixels, _ = self._pixels(image)
        _, usage = self._run(pixels, tiling=None if patch is None else TilingOptions(patch))
        colour = np.rint(pixels[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        save_bit_map(np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], 3))[..., ::-1]), usage, path)
        return usage

    def _pixels(self, image: np.ndarray | str | Path) -> tuple[Tensor, bool]:
        """A picture as (1, C, H, W) in [0, 1] with the network's channels, and whether it was grey."""
        array = as_picture(image).colour
        grey = array.shape[2] == 1
        if self.channels == 1 and not grey:
            raise DynqError('the network takes grey images only; convert the image first.')
        pixels = np.broadcast_to(array, (*array.shape[:2], self.channels)).transpose(2, 0, 1)
        peak = np.float32(np.iinfo(array.dtype).max)
        return torch.from_numpy(np.ascontiguousarray(pixels, np.float32) / peak)[None], grey

    def agreement(self, images: Sequence[Tensor]) -> tuple[float, float]:
        """How close results are to those of the float network.

        Args:
            images: (C, H, W) each, in [0, 1] or uint8.

        Returns:
            PSNR between the two 8-bit outputs over all pixels, dB (infinite where they are equal), and the mean bits of
            the activations of adaptive layers.
        """
        error, count, fab = 0.0, 0, []
        for image in images:
            batch = as_float(image)[None]
            ours, usage = self._run(batch)
            theirs, _ = self._run(batch, Mode.FLOAT)
            error += (ours.mul(255).round() - theirs.mul(255).round()).double().square().sum().item()
            count += ours.numel()
            fab.append(usage.fab())
        psnr = math.inf if error == 0 else 10 * math.log10(255**2 * count / error)
        return psnr, sum(fab) / len(fab)

    def checkpoint(self) -> dict[str, object]:
        """What ``save`` saves: state dict and description."""
        state = {name: value.cpu() for name, value in self.network.state_dict().items()}
        return {'params': state, 'description': self.network.description}

    def save(self, path: str | Path) -> None:
        """Save a checkpoint that describes itself; ``dynq_basicsr.load`` and BasicSR's option files take it."""
        save_atomically(self.checkpoint(), path)

    def export(
        self, folder: str | Path, also: Mapping[str, bytes] | None = None, marks: Sequence[str] = (NAME,)
    ) -> list[Exported]:
        """Write a model folder that runs without PyTorch.

        Args:
            folder: Made, or replaced if it is a model folder.
            also: Further files of the folder, by name.
            marks: What tells such a folder.

        Returns:
            What became of each bit assignment, see ``deploy.freeze.freeze``.
        """
        require('onnx', 'onnxruntime')
        from dynq_basicsr.deploy.freeze import freeze

        device = next(self.network.parameters()).device
        try:
            return freeze(self.network, folder, self.tiling, also=also, marks=marks)
        finally:
            self.network.to(device, memory_format=torch.channels_last)
