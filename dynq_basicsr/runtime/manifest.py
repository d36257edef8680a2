"""The model folder: what the manifest says of a frozen network, and that its graph is the one it was written for."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from dynq_basicsr.atomic import sweep
from dynq_basicsr.errors import DynqError, check_number, shown
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.runtime.choices import MANIFEST
from dynq_basicsr.runtime.grids import Grid, Grids

FORMAT = 3
CHECKSUM = 'sha256'  # of all other values of the manifest
CHANNELS = (1, 3)
# What no network of this kind goes beyond; a number above is an error, and would cost more memory than there is.
LARGEST = {'scale': 16, 'size.multiple': 1024, 'size.least': 4096}
_LARGEST_PATCH, _LARGEST_MANIFEST, _LARGEST_GRAPH = 2**16, 2**24, 2**31  # pixels or patches, bytes, bytes


@dataclass(frozen=True)
class Graph:
    """An ONNX file of the folder.

    Attributes:
        path: Where it lies.
        sha256: Of its bytes, hexadecimal.
        size: Bytes.
        end: The file that goes on where this one ends: constants that it shares with another; None: it is whole.
    """

    path: Path
    sha256: str
    size: int
    end: Graph | None = None

    def read(self) -> bytes:
        """Return the bytes of the whole model.

        Raises:
            DynqError: If the file is missing or was changed.
        """
        if not self.path.is_file():
            raise DynqError(f'{self.path}: the graph is missing; copy the whole model folder again, or export it anew.')
        try:
            same = self.path.stat().st_size == self.size
            content = self.path.read_bytes() if same else b''
        except OSError as error:
            raise DynqError(f'{self.path}: cannot be read ({error.strerror}); check its permissions.') from error
        if not same or hashlib.sha256(content).hexdigest() != self.sha256:
            raise DynqError(
                f'{self.path}: the graph is cut off or was edited (its size or sha256 is not that of {MANIFEST}); copy '
                'the model folder again, or export it anew.'
            )
        return content + self.end.read() if self.end else content


@dataclass(frozen=True)
class Assignment:
    """Bits that the policy can choose.

    Attributes:
        grids: Of each layer whose input is quantized.
        fab: Mean bits of the adaptive layers' activations; None: not stated.
    """

    grids: Grids
    fab: float | None = None


@dataclass(frozen=True)
class Manifest:
    """What the runtime needs to know of a frozen network.

    Attributes:
        scale: Enlargement of the sides.
        channels: 3 (RGB) or 1 (grey).
        multiple: Of what a side of the graphs' input must be a multiple, pixels.
        least: The least side of the graphs' input, pixels.
        network: The graph, for ONNX Runtime; for others, too, where no grids are its inputs.
        qdq: The same network for other runtimes; None: the folder was made without it.
        assignments: By code, what the policy can choose; each has the same layers.
        controller: Of policies that look at the shallow feature.
        policy: Who chooses the code; see ``decide.build_policy``.
        tiling: How the network was evaluated.
    """

    scale: int
    channels: int
    multiple: int
    least: int
    network: Graph
    qdq: Graph | None
    assignments: Mapping[str, Assignment]
    controller: Graph | None
    policy: Mapping[str, object]
    tiling: TilingOptions

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read the manifest of a model folder; graphs are not read yet.

        Args:
            folder: As ``dynq export`` writes it.

        Raises:
            DynqError: If there is none, or it is damaged, edited, or of another version.
        """
        folder = Path(folder)
        if not folder.is_dir():
            sweep(folder.parent)  # an export that was killed while it replaced the folder
        path = folder / MANIFEST
        if not path.is_file():
            what = 'is no model folder, or its export did not finish' if folder.is_dir() else 'there is no folder'
            raise DynqError(f'{folder}: {what} ({MANIFEST} is missing); make it with `dynq quantize` or `dynq export`.')
        values = _read_json(path)
        found = values.get('format') if isinstance(values, dict) else None
        if type(found) is not int or found != FORMAT:
            raise DynqError(
                f'{path}: the format of the model folder is {shown(found)}, this version reads {FORMAT}; export the '
                'network with the same version of dynq_basicsr that runs it.'
            )
        if sealed(values)[CHECKSUM] != values.get(CHECKSUM):
            raise DynqError(
                f'{path}: the manifest is damaged or was edited (its checksum differs); copy the model folder again, '
                'or export it anew.'
            )
        try:
            return cls._from_values(path, values)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = f'{shown(error.args[0])} is missing' if isinstance(error, KeyError) else str(error)[:200]
            raise DynqError(f'{path}: the manifest is incomplete ({reason}); export the network again.') from error

    @classmethod
    def _from_values(cls, path: Path, values: Mapping) -> Manifest:
        size, controller, qdq = values['size'], values.get('controller'), values.get('qdq')
        shared = _graph(path, values['shared']) if values.get('shared') else None
        limited = {'scale': values['scale'], 'size.multiple': size['multiple'], 'size.least': size['least']}
        for key, value in limited.items():
            check_number(f'{path}: {key}', value, 1, LARGEST[key], whole=True)
        if type(values['channels']) is not int or values['channels'] not in CHANNELS:
            raise DynqError(f'{path}: channels must be 1 or 3, not {shown(values["channels"])}; export again.')
        for key, value in values['tiling'].items():
            if key != 'patch_merge' and value is not None:
                check_number(f'{path}: tiling.{key}', value, 1, _LARGEST_PATCH, whole=True)
        if not isinstance(values['policy'], Mapping) or not values['codes']:
            raise DynqError(f'{path}: holds no policy or no codes; export the network again.')
        assignments = {code: _assignment(path, code, entry) for code, entry in values['codes'].items()}
        if len({frozenset(one.grids) for one in assignments.values()}) > 1:
            raise DynqError(f'{path}: codes have grids of different layers; export the network again.')
        return cls(
            values['scale'],
            values['channels'],
            size['multiple'],
            size['least'],
            replace(_graph(path, values['network']), end=shared),
            None if qdq is None else replace(_graph(path, qdq), end=shared),
            assignments,
            None if controller is None else _graph(path, controller),
            values['policy'],
            TilingOptions.from_val(values['tiling']),
        )


def sealed(values: Mapping) -> dict[str, object]:
    """The values of a manifest with their checksum, which depends on neither order nor layout.

    Raises:
        ValueError: If a number is not finite.
    """
    others = {key: value for key, value in values.items() if key != CHECKSUM}
    text = json.dumps(others, sort_keys=True, separators=(',', ':'), allow_nan=False)
    return {**others, CHECKSUM: hashlib.sha256(text.encode()).hexdigest()}


def _read_json(path: Path) -> object:
    try:
        if path.stat().st_size > _LARGEST_MANIFEST:
            raise ValueError('it is too large')
        return json.loads(
            path.read_text(encoding='utf-8'), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite
        )
    except (ValueError, RecursionError, OSError) as error:
        reason = 'it is nested too deeply' if isinstance(error, RecursionError) else str(error)[:200]
        raise DynqError(f'{path}: the manifest is damaged ({reason}); export the network again.') from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f'a key is given twice among {shown([key for key, _ in pairs])}')
    return values


def _no_number(text: str) -> None:
    raise ValueError(f'{text} is no number')


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f'{text[:40]} is too large')
    return number


def _assignment(path: Path, code: str, entry: Mapping) -> Assignment:
    fab = entry.get('fab')
    if fab is not None:
        check_number(f'{path}: {shown(code)}: fab', fab, 0, 32)
    grids = {
        name: Grid.from_values(f'{path}: {shown(code)}: {shown(name)}', grid) for name, grid in entry['grids'].items()
    }
    return Assignment(grids, fab)


def _graph(path: Path, entry: Mapping) -> Graph:
    name, digest = entry['file'], entry['sha256']
    plain = isinstance(name, str) and len(name) <= 200 and name not in ('', '.', '..') and '\0' not in name
    if not plain or PurePosixPath(name).name != name or PureWindowsPath(name).name != name:
        raise DynqError(f'{path}: {shown(name)} is no file of this folder; export the network again.')
    if not isinstance(digest, str) or not re.fullmatch('[0-9a-f]{64}', digest):
        raise DynqError(f'{path}: {name}: sha256 is {shown(digest)}; export the network again.')
    check_number(f'{path}: {name}: bytes', entry['bytes'], 1, _LARGEST_GRAPH, whole=True)
    return Graph(path.parent / name, digest, entry['bytes'])
