"""A model folder as an object of Python: no PyTorch, no command line."""

from __future__ import annotations

import os

import numpy as np

from dynq_basicsr.deploy.pictures import as_picture, upscale_picture
from dynq_basicsr.deploy.router import Router, RunOptions
from dynq_basicsr.patch_grid import TilingOptions


class FrozenModel:
    """The graphs of a model folder.

    Args:
        folder: As ``q.export`` or ``dynq quantize`` writes it.
        runtime: ``onnxruntime`` or ``openvino``.
        threads: Of the CPU; None: all cores.
        patch: Side of the patches that bits are chosen for, LR pixels; 0: whole images; None: as the folder says.

    Attributes:
        scale: Enlargement of the sides.

    Raises:
        DynqError: If the folder is incomplete, damaged or edited, or the runtime is not installed.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        runtime: str = 'onnxruntime',
        threads: int | None = None,
        patch: int | None = None,
    ) -> None:
        tiling = None if patch is None else TilingOptions(patch or None)
        self._router = Router(folder, RunOptions(runtime, threads or os.cpu_count() or 1, tiling=tiling))
        self.scale = self._router.manifest.scale

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Super-resolve an array, see ``upscale``."""
        return self.upscale(image)

    def upscale(self, image: np.ndarray | str | os.PathLike) -> np.ndarray:
        """Super-resolve a picture.

        Args:
            image: (H, W, 3) RGB or (H, W) grey, uint8 or uint16; or a file.

        Returns:
            Of the same type, ``scale`` times as high and wide.

        Raises:
            DynqError: If the picture or the result is not sound.
        """
        picture = as_picture(image)
        result = upscale_picture(picture, self._router, int(np.iinfo(picture.colour.dtype).max)).colour
        return result[..., 0] if result.shape[2] == 1 else result
