"""The option files that ship with the package: where they lie, and which one a name means."""

from __future__ import annotations

from pathlib import Path

from dynq_basicsr.errors import DynqError, nearest

PACKAGE = Path(__file__).resolve().parent


def folder() -> Path:
    """Where they lie: in the wheel within the package, in a clone beside it."""
    shipped = PACKAGE / '_options'
    return shipped if shipped.is_dir() else PACKAGE.parent / 'options'


def names() -> list[str]:
    """The files' names without the suffix, in alphabetical order."""
    return sorted(path.stem for path in folder().glob('*.yml'))


def find(name: str) -> Path:
    """The file of a name.

    Args:
        name: ``adabm_srresnet_x4_w4a4``; ``options/`` before it and ``.yml`` behind it do not matter.

    Raises:
        DynqError: If there is none; names near ones.
    """
    stem = Path(name).name.removesuffix('.yml')
    if stem not in names():
        raise DynqError(f'{name}: no option file ships under this name.{nearest(stem, names())} '
                        'See `dynq options list`.')
    return folder() / f'{stem}.yml'


def locate(root: Path, path: str) -> Path:
    """A file that option files name as it lies in a clone, wherever the package is installed.

    Args:
        root: Where the user works; a file there comes first.
        path: As ``options/test_edsr_x4.yml`` or ``dynq_basicsr/weights/edsr_small_x4.safetensors``.

    Returns:
        The file; below ``root`` where there is none.
    """
    room, _, inside = path.partition('/')
    shipped = {'options': folder(), PACKAGE.name: PACKAGE}.get(room)
    own = root / path
    return shipped / inside if shipped and not own.is_file() and (shipped / inside).is_file() else own


def read(path: Path) -> str:
    """The text of an option file that ships, paths of weights that ship, too, as they lie on this machine.

    Args:
        path: See ``find``.
    """
    text = path.read_text(encoding='utf-8')
    weights = f'{PACKAGE.name}/weights/'
    return text if folder().parent == PACKAGE.parent else text.replace(weights, f'{(PACKAGE / "weights").as_posix()}/')
