"""What an HTML report is made of: a checkpoint, pictures and their ground truth, sizes on disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_files import pictures_in
from dynq_basicsr.report.one_image import read_options
from dynq_basicsr.runtime.choices import CHECKPOINT, MANIFEST

PICTURES = 'pictures.txt'  # in a folder of `dynq quantize`
NAME_PICTURES = 'name low-resolution pictures, or a folder of them, behind it.'


@dataclass(frozen=True)
class Choice:
    """Which pictures a report shows.

    Attributes:
        pairs: An LR picture and its ground truth, or None.
        words: Where they come from, a sentence.
    """

    pairs: Sequence[tuple[Path, Path | None]]
    words: str


def find_checkpoint(network: Path) -> Path:
    """The quantized checkpoint of a folder of ``dynq quantize``, of a run of BasicSR, or itself.

    Args:
        network: A folder, or a file; of a run's checkpoints, the one that was written last is taken.

    Raises:
        DynqError: If there is none.
    """
    if not network.exists():
        raise DynqError(f'{network}: no such file or folder.')
    if network.is_file():
        return network
    if (network / CHECKPOINT).is_file():
        return network / CHECKPOINT
    saved = list((network / 'models').glob('net_g_*.pth'))
    if not saved:
        known = f'neither {CHECKPOINT} of `dynq quantize` nor models/net_g_*.pth of a run'
        raise DynqError(f'{network}: holds {known}; name one of these folders, or a quantized checkpoint.')
    return max(saved, key=lambda path: (path.stat().st_mtime_ns, path.name))


def choose_pictures(network: Path, given: Sequence[Path], truth: Path | None, count: int) -> Choice:
    """Choose the pictures to show.

    Args:
        network: As for ``find_checkpoint``.
        given: Pictures and folders; empty: those that the network was calibrated or validated with.
        truth: Folder of ground truth, of the same names, or without the ``x4`` behind those of LR pictures.
        count: How many at most.

    Raises:
        DynqError: If there are none, or no ground truth belongs to them.
    """
    words = 'Pictures were named for this report.'
    if given:
        found = list(_listed(given))
    elif (network / PICTURES).is_file():
        lines = (network / PICTURES).read_text(encoding='utf-8', errors='surrogateescape').splitlines()
        found = [Path(line) for line in lines if Path(line).is_file()]
        words = 'Pictures are of those that the network was calibrated with, so it may do a little worse on others.'
    else:
        found, truth = _validated(network, truth)
        words = 'Pictures are those of the run’s own data set for validation.'
    if not found:
        raise DynqError(f'{network}: none of its pictures is there; {NAME_PICTURES}')
    words += f' Of {len(found)}, {count} are shown.' if len(found) > count else ''
    # spread over all of them: neighbours in the order of names are often alike
    shown = [found[index * len(found) // min(count, len(found))] for index in range(min(count, len(found)))]
    truths = {} if truth is None else {path.stem: path for path in _listed([truth])}
    pairs = [(path, truths.get(path.stem) or truths.get(re.sub(r'x\d$', '', path.stem))) for path in shown]
    if truth is not None and not any(found for _, found in pairs):
        raise DynqError(f'--gt {truth}: holds no {shown[0].stem}; name the folder of the HR pictures.')
    return Choice(pairs, words)


def _listed(given: Iterable[Path]) -> Iterable[Path]:
    for path in given:
        if path.is_dir():
            inside = list(pictures_in(path))
            if not inside:
                raise DynqError(f'{path}: the folder holds no images.')
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise DynqError(f'{path}: no such file or folder.')


def _validated(run: Path, truth: Path | None) -> tuple[list[Path], Path | None]:
    """LR pictures of the first data set for validation of a run's option file, and the folder of their HR ones."""
    for option_file in sorted(run.glob('*.yml')) if run.is_dir() else ():
        for key, dataset in (read_options(option_file).get('datasets') or {}).items():
            if key.split('_')[0] not in ('val', 'test') or not isinstance(dataset, Mapping):
                continue
            lr, hr = (Path(str(dataset.get(f'dataroot_{kind}'))) for kind in ('lq', 'gt'))
            if lr.is_dir():
                return list(pictures_in(lr)), truth or (hr if hr.is_dir() else None)
    raise DynqError(f'{run}: names no pictures that are there; {NAME_PICTURES}')


def float_size(network: Path) -> int | None:
    """Bytes of the float checkpoint that a folder's option file names; None where nobody knows."""
    for option_file in sorted(network.glob('*.yml')) if network.is_dir() else ():
        weights = read_options(option_file)['path'].get('pretrain_network_g')
        if isinstance(weights, str) and Path(weights).is_file():
            return Path(weights).stat().st_size
    return None


def quantized_size(network: Path) -> int:
    """Bytes of what runs: graphs and manifest of a model folder, or the checkpoint where there are none."""
    manifest = network / MANIFEST
    files = [*network.glob('*.onnx'), manifest] if manifest.is_file() else [find_checkpoint(network)]
    return sum(path.stat().st_size for path in files)
