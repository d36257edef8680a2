"""Where the pictures of an evaluation go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def image_name(file: str) -> str:
    """What an image is called in results.

    Args:
        file: Its path or LMDB key.
    """
    return Path(file).stem


def picture_path(opt: Mapping, dataset: str, file: str, iteration: int | str) -> Path:
    """The file of a result.

    Args:
        opt: BasicSR's options.
        dataset: Name of the data set.
        file: Path or LMDB key of the LR image.
        iteration: Of a training.
    """
    root, name = Path(opt['path']['visualization']) / dataset, image_name(file)
    if opt['is_train']:
        return root / name / f'{name}_{iteration}.png'
    return root / f'{name}_{opt["val"].get("suffix") or opt["name"]}.png'


def bit_map_path(picture: Path) -> Path:
    """The picture of the bits beside that of a result."""
    return picture.with_stem(f'{picture.stem}_bits')


def outputs(opt: Mapping, dataset: str, file: str) -> list[str]:
    """By what names the results of an image are kept: its row of a table, its pictures.

    Args:
        opt: BasicSR's options.
        dataset: Name of the data set.
        file: Path or LMDB key of the LR image.
    """
    picture, val = picture_path(opt, dataset, file, 0), opt.get('val') or {}
    names = [] if opt['is_train'] else [image_name(file)]
    names += [str(picture)] if val.get('save_img') else []
    return [*names, str(bit_map_path(picture))] if val.get('bit_maps') else names
