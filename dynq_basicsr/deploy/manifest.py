"""The model folder: what the manifest says of a frozen network, and that its graphs are the ones it was written for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dynq_basicsr.errors import DynqError, check_number
from dynq_basicsr.patch_grid import TilingOptions

FORMAT = 1
NAME = 'manifest.json'
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Graph:
    """An ONNX file of the folder.

    Attributes:
        path: Where it lies.
        sha256: Of its bytes, hexadecimal.
        fab: Mean bits of the adaptive layers' activations; None: a controller, or not stated.
        qdq: The same network for runtimes other than ONNX Runtime; None: this file serves all.
    """

    path: Path
    sha256: str
    fab: float | None = None
    qdq: Graph | None = None

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            DynqError: If the file is missing or was changed.
        """
        if not self.path.is_file():
            raise DynqError(f'{self.path}: the graph is missing; copy the whole model folder again, or export it anew.')
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DynqError(
                f'{self.path}: the graph is cut off or was edited (its sha256 is not that of {NAME}); copy the model '
                'folder again, or export it anew.'
            )
        return content


@dataclass(frozen=True)
class Manifest:
    """What the runtime needs to know of a frozen network.

    Attributes:
        scale: Enlargement of the sides.
        channels: 3 (RGB) or 1 (grey).
        multiple: Of what a side of the graphs' input must be a multiple, pixels.
        least: The least side of the graphs' input, pixels.
        graphs: By code, one for each bit assignment that the policy can choose.
        controller: Of policies that look at the shallow feature.
        policy: Who chooses the code; see ``decide.build_policy``.
        tiling: How the network was evaluated.
    """

    scale: int
    channels: int
    multiple: int
    least: int
    graphs: Mapping[str, Graph]
    controller: Graph | None
    policy: Mapping[str, object]
    tiling: TilingOptions

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read the manifest of a model folder; graphs are not read yet.

        Args:
            folder: As ``python -m dynq_basicsr.export`` writes it.

        Raises:
            DynqError: If there is none, or it is damaged or of another version.
        """
        path = Path(folder) / NAME
        if not path.is_file():
            what = 'is no model folder, or its export did not finish' if Path(folder).is_dir() else 'there is no folder'
            raise DynqError(f'{folder}: {what} ({NAME} is missing); run `python -m dynq_basicsr.export`.')
        try:
            values = json.loads(path.read_text(encoding='utf-8'))
        except ValueError as error:
            raise DynqError(f'{path}: the manifest is damaged ({error}); export the network again.') from error
        found = values.get('format') if isinstance(values, dict) else None
        if found != FORMAT:
            raise DynqError(
                f'{path}: the format of the model folder is {found!r}, this version reads {FORMAT}; export the network '
                'with the same version of dynq_basicsr that runs it.'
            )
        try:
            return cls._from_values(path, values)
        except (KeyError, TypeError, AttributeError) as error:
            reason = f'{error.args[0]!r} is missing' if isinstance(error, KeyError) else error
            raise DynqError(f'{path}: the manifest is incomplete ({reason}); export the network again.') from error

    @classmethod
    def _from_values(cls, path: Path, values: Mapping) -> Manifest:
        def graph(entry: Mapping) -> Graph:
            if Path(entry['file']).name != entry['file']:
                raise DynqError(f'{path}: {entry["file"]!r} is no file of this folder; export the network again.')
            qdq = graph(entry['qdq']) if entry.get('qdq') else None
            return Graph(path.parent / entry['file'], entry['sha256'], entry.get('fab'), qdq)

        controller, size = values.get('controller'), values['size']
        for key, value in (('scale', values['scale']), *((f'size.{key}', size[key]) for key in ('multiple', 'least'))):
            check_number(f'{path}: {key}', value, 1, whole=True)
        if values['channels'] not in CHANNELS:
            raise DynqError(f'{path}: channels must be 1 or 3, not {values["channels"]!r}; export the network again.')
        return cls(
            values['scale'],
            values['channels'],
            size['multiple'],
            size['least'],
            {code: graph(entry) for code, entry in values['graphs'].items()},
            None if controller is None else graph(controller),
            values['policy'],
            TilingOptions.from_val(values['tiling']),
        )
