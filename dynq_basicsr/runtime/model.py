"""A model folder as an object of Python: no PyTorch, no command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dynq_basicsr.imaging.colours import Upscaler, upscale_image
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.runtime.router import Router, RunOptions


class FrozenModel:
    """The network of a model folder.

    Args:
        folder: As ``q.export`` or ``dynq quantize`` writes it.
        runtime: ``onnxruntime`` or ``openvino``.
        threads: Of the CPU; None: all cores.
        patch: Side of the patches that bits are chosen for, LR pixels; 0: whole images; None: as the folder says.

    Attributes:
        scale: Enlargement of the sides.
        channels: Of the images that the network takes: 3 (RGB) or 1 (Y, or grey).

    Raises:
        DynqError: If the folder is incomplete, damaged or edited, or the runtime is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        runtime: str = 'onnxruntime',
        threads: int | None = None,
        patch: int | None = None,
    ) -> None:
        tiling = None if patch is None else TilingOptions(patch or None)
        self._made_from = str(folder), runtime, threads, patch
        router = Router(Path(folder), RunOptions(runtime, threads or os.cpu_count() or 1, tiling=tiling))
        self.scale, self.channels = router.scale, router.channels
        self._upscaler = Upscaler(self.channels, self.scale, router.upscale)

    def __repr__(self) -> str:
        folder, runtime, *_ = self._made_from
        return f'FrozenModel({folder!r}, x{self.scale}, {runtime})'

    def __reduce__(self) -> tuple[type[FrozenModel], tuple]:
        """For pickles and copies, which open the folder again: sessions of a runtime belong to their process."""
        return type(self), self._made_from

    def __call__(self, image: NDArray[Any] | str | os.PathLike[str]) -> NDArray[Any]:
        """Super-resolve a picture, see ``upscale``."""
        return self.upscale(image)

    def upscale(self, image: NDArray[Any] | str | os.PathLike[str]) -> NDArray[Any]:
        """Super-resolve a picture.

        Args:
            image: (H, W, 3) RGB or (H, W) grey: uint8, uint16, or float in [0, 1]; an image of Pillow; or a file. Of
                colours, a network of one channel enlarges Y; Cb and Cr become larger bicubically.

        Returns:
            Of the same type, ``scale`` times as high and wide.

        Raises:
            DynqError: If the picture or the result is not sound.
        """
        return upscale_image(image, self._upscaler)
