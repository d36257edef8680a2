"""A quantized network as an object of Python: call it, look at its bits, save it, export it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, overload
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.data.channels import as_float
from dynq_basicsr.doctor.require import require
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.arrays import cut, holding, white_of
from dynq_basicsr.imaging.colours import Upscaler, as_channels, upscale_image
from dynq_basicsr.imaging.patch_grid import Box, TilingOptions, tile_boxes
from dynq_basicsr.imaging.pictures import as_picture
from dynq_basicsr.models.tiling import finite, run_tiled
from dynq_basicsr.numerics.attention import has_fused_attention
from dynq_basicsr.quantization.cost import NetworkCost, measure_cost
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.quantization.usage import BitUsage
from dynq_basicsr.training.saving import save_atomically

if TYPE_CHECKING:
    from dynq_basicsr.export.freeze import Exported, Traced

# A network knows one run at a time. How attention of PyTorch's own runs is a switch of the process, so that networks
# which have it take turns.
_ONE_RUN: WeakKeyDictionary[QuantizedSR, threading.Lock] = WeakKeyDictionary()
_ONE_RUN_WITH_ATTENTION = threading.Lock()


class Quantized:
    """A calibrated network, run patch by patch so that bits follow the content.

    Args:
        network: The network; ``q.network`` is an ordinary ``nn.Module``.
        tiling: Where patches lie.
        report: What its making tells: ``found``, ``seconds``, ``psnr``, ``bits`` and more; empty for a loaded one.
        traced: The network as a graph, where that was made already.
    """

    def __init__(
        self,
        network: QuantizedSR,
        tiling: TilingOptions | None = None,
        report: dict[str, object] | None = None,
        traced: Traced | None = None,
    ) -> None:
        self.network, self.tiling, self.report = network.eval(), tiling or TilingOptions(), report or {}
        self._traced = traced
        self._cost: NetworkCost | None = None

    @property
    def channels(self) -> int:
        """Of the images that the network takes: 3 (RGB) or 1 (Y, or grey)."""
        return self.network.input_channels

    @property
    def _alone(self) -> threading.Lock:
        """To be held while the network runs."""
        if has_fused_attention(self.network):
            return _ONE_RUN_WITH_ATTENTION
        return _ONE_RUN.setdefault(self.network, threading.Lock())

    def __repr__(self) -> str:
        net, options = self.network, self.network.quantization
        return (
            f'Quantized({type(net.backbone).__name__} x{net.scale}, W{options.weight.bits}A{options.activation.bits}, '
            f'{type(net.policy).__name__})'
        )

    @overload
    def __call__(self, lr: Tensor) -> Tensor: ...

    @overload
    def __call__(self, lr: NDArray[Any] | str | PathLike[str]) -> NDArray[Any]: ...

    def __call__(self, lr: Tensor | NDArray[Any] | str | PathLike[str]) -> Tensor | NDArray[Any]:
        """Super-resolve images.

        Args:
            lr: (N, C, H, W) or (C, H, W), a tensor, uint8 or in [0, 1]; or what ``upscale`` takes.

        Returns:
            A tensor for a tensor, uint8 or in [0, 1], else an array; ``scale`` times as high and wide.

        Raises:
            DynqError: If it is no image that the network takes.
        """
        if not isinstance(lr, Tensor):
            return self.upscale(lr)
        if lr.ndim == 3:
            return self(lr[None])[0]
        if lr.ndim != 4 or not (lr.is_floating_point() or lr.dtype == torch.uint8) or 0 in lr.shape:
            what = f'{lr.dtype} {tuple(lr.shape)}'
            raise DynqError(f'a tensor must be (N, C, H, W), uint8 or float in [0, 1], not {what}.')
        if lr.dtype == torch.uint8:
            results = [self._run(as_float(one)[None])[0] for one in lr]
            return torch.cat(results).mul(255).round().byte()
        if not (lr.max() <= 1.01 and lr.min() >= -0.01):  # NaN is neither
            raise DynqError('a tensor must lie in [0, 1]; divide it by 255.')
        return torch.cat([self._run(one[None], levels=None)[0] for one in lr])

    @torch.no_grad()
    def _run(
        self,
        image: Tensor,
        mode: Mode = Mode.EXACT,
        tiling: TilingOptions | None = None,
        levels: int | None = 255,
    ) -> tuple[Tensor, BitUsage]:
        """The result for (1, C, H, W) in [0, 1], patches of it rounded to ``levels``, and the bits."""
        net, tiling = self.network, tiling or self.tiling
        image = image.to(next(net.parameters()).device, torch.float32)
        if image.shape[1] != self.channels:
            raise DynqError(f'the network takes images of {self.channels} channels, not {image.shape[1]}.')
        with self._alone:
            self._cost = self._cost or measure_cost(net, self.channels)
        height, width = image.shape[-2:]
        usage = BitUsage(self._cost, tile_boxes(height, width, tiling), height, width, static=net.static_bits())

        def run(patches: Tensor, indices: list[int]) -> Tensor:
            result, bits, _ = net(patches, mode=mode, details=True)
            if mode is not Mode.FLOAT:
                usage.add(indices, net.plan.adaptive, bits)
            return finite(result)

        with self._alone:
            return run_tiled(image, tiling, run, levels).clamp(0, 1), usage

    def upscale(self, image: NDArray[Any] | str | PathLike[str]) -> NDArray[Any]:
        """Super-resolve a picture.

        Args:
            image: (H, W, 3) RGB or (H, W) grey: uint8, uint16, or float in [0, 1]; an image of Pillow; or a file. Of
                colours, a network of one channel enlarges Y; Cb and Cr become larger bicubically.

        Returns:
            Of the same type and as many channels, ``scale`` times as high and wide.
        """
        return self._upscale(image, Mode.EXACT)

    def reference(self, image: NDArray[Any] | str | PathLike[str]) -> NDArray[Any]:
        """What the float network makes of a picture; see ``upscale``."""
        return self._upscale(image, Mode.FLOAT)

    def upscale_with_bits(self, image: NDArray[Any] | str | PathLike[str]) -> tuple[NDArray[Any], BitUsage]:
        """``upscale`` and ``bits`` in one run."""
        used = []

        def run(pixels: NDArray[Any], levels: int) -> NDArray[Any]:
            result, usage = self._run_pixels(pixels, Mode.EXACT, levels)
            used.append(usage)
            return result

        return upscale_image(image, Upscaler(self.channels, self.network.scale, run)), used[0]

    def _upscale(self, image: NDArray[Any] | str | PathLike[str], mode: Mode) -> NDArray[Any]:
        def run(pixels: NDArray[Any], levels: int) -> NDArray[Any]:
            return self._run_pixels(pixels, mode, levels)[0]

        return upscale_image(image, Upscaler(self.channels, self.network.scale, run))

    def _run_pixels(self, pixels: NDArray[Any], mode: Mode, levels: int) -> tuple[NDArray[Any], BitUsage]:
        """Whole numbers from 0 to ``levels``, (scale * H, scale * W, C), of an image (H, W, C), and the bits."""
        result, usage = self._run(as_batch(pixels), mode, levels=levels)
        return result[0].mul(levels).round().permute(1, 2, 0).cpu().numpy().astype(holding(levels)), usage

    def bits(self, image: NDArray[Any] | str | PathLike[str]) -> BitUsage:
        """The bits of every patch and layer that a picture used."""
        return self._usage(as_picture(image).colour)

    def bit_map(
        self, image: NDArray[Any] | str | PathLike[str], path: str | PathLike[str] | IO[bytes], patch: int | None = None
    ) -> BitUsage:
        """Write a picture of the bits that an image used.

        Args:
            image: As ``upscale`` takes it.
            path: The PNG file, or a stream.
            patch: Side of the patches that bits are chosen for, LR pixels; None: as everywhere.

        Returns:
            The bits.
        """
        require('matplotlib')
        from dynq_basicsr.report.bit_map import save_bit_map  # which takes half a second

        colour = as_picture(image).colour
        usage = self._usage(colour, None if patch is None else TilingOptions(patch))
        shown = np.rint(colour * np.float32(255 / white_of(colour.dtype))).clip(0, 255).astype(np.uint8)
        save_bit_map(np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3))[..., ::-1]), usage, path)
        return usage

    def _usage(self, colour: NDArray[Any], tiling: TilingOptions | None = None) -> BitUsage:
        return self._run(as_batch(as_channels(colour, self.channels)), tiling=tiling)[1]

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

    def save(self, path: str | PathLike[str]) -> None:
        """Save a checkpoint that describes itself; ``dynq_basicsr.load`` and BasicSR's option files take it."""
        save_atomically(self.checkpoint(), Path(path))

    def export(
        self, folder: str | PathLike[str], also: Mapping[str, bytes] | None = None, qdq: bool = False
    ) -> Exported:
        """Write a model folder that runs without PyTorch.

        Args:
            folder: Made, or replaced if it is a model folder that nobody put anything into.
            also: Further files of the folder, by name.
            qdq: Write the network for OpenVINO and other runtimes, too.

        Returns:
            What became of each bit assignment, and sizes.
        """
        require('onnx', 'onnxruntime')
        from dynq_basicsr.export.freeze import freeze

        device = next(self.network.parameters()).device
        try:
            return freeze(self.network, Path(folder), self.tiling, also=also, qdq=qdq, traced=self._traced)
        finally:
            self.network.to(device, memory_format=torch.channels_last)


class PatchwiseNetwork:
    """A quantized network as ``dynq upscale`` runs it, in the place of a model folder's router.

    Args:
        quantized: The network.
    """

    def __init__(self, quantized: Quantized) -> None:
        self._quantized = quantized
        self.channels, self.scale = quantized.channels, quantized.network.scale

    def boxes(self, image: NDArray[Any]) -> list[Box]:
        """Where the patches of an image (H, W, ...) lie."""
        return tile_boxes(*image.shape[:2], self._quantized.tiling)

    def upscale(self, image: NDArray[Any], levels: int, report: Callable[[str, int], None]) -> NDArray[Any]:
        """Super-resolve an image, see ``runtime.router.Router``; the report has its mean bits, once."""
        result, usage = self._quantized._run_pixels(image, Mode.EXACT, levels)
        report(f'{usage.fab():.2f} bits', len(self.boxes(image)))
        return result

    def strips(self, image: NDArray[Any], levels: int, report: Callable[[str, int], None]) -> Iterator[NDArray[Any]]:
        """What ``upscale`` gives, in one piece."""
        yield self.upscale(image, levels, report)


def as_batch(pixels: NDArray[Any]) -> Tensor:
    """(H, W, C) of any type -> (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(cut(pixels, (0, 0, *pixels.shape[:2])))[None]
