"""What a path to a model leads to: graphs, or a checkpoint."""

from __future__ import annotations

from pathlib import Path

from dynq_basicsr.atomic import sweep
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.choices import CHECKPOINT, MANIFEST

_ENDINGS = ('.pth', '.pt', '.ckpt', '.safetensors')


def is_checkpoint(model: Path) -> bool:
    """Whether a model runs in PyTorch: it is a file, or a folder with a checkpoint and no graphs.

    What does not exist is what its name looks like, so that the error is about that.

    Args:
        model: Of a folder, what a killed command left of it is put back first.
    """
    if not model.exists():
        sweep(model.parent)
    if model.is_dir():
        return (model / CHECKPOINT).is_file() and not (model / MANIFEST).exists()
    return model.is_file() or model.suffix.lower() in _ENDINGS


def checkpoint_of(model: Path) -> Path:
    """The checkpoint that a model is, or that lies in its folder, beside graphs or not.

    Args:
        model: A checkpoint, or a folder of ``dynq quantize``.

    Raises:
        DynqError: If the folder has none.
    """
    if not model.is_dir():
        return model
    if not (model / CHECKPOINT).is_file():
        raise DynqError(f'{model}: holds no {CHECKPOINT}; name the checkpoint that it was exported from.')
    return model / CHECKPOINT
