"""What is known of a row that was run: of which options its network and its figures are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dynq_basicsr.atomic import write_whole
from dynq_basicsr.errors import DynqError
from dynq_basicsr.reproduce.options import Job


@dataclass
class Record:
    """Kept beside a row's option files.

    Attributes:
        started: Fingerprint of the training that was begun last.
        trained: Fingerprint of the training that came to its end.
        seconds: Of its stages; empty where it was interrupted and resumed, since only a part was timed then.
        tests: Name of a test -> fingerprint and figures.
    """

    path: Path
    started: str = ''
    trained: str = ''
    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a record; an empty one where there is none.

        Raises:
            DynqError: If the file is something else.
        """
        if not path.is_file():
            return cls(path)
        try:
            return cls(path, **json.loads(path.read_text(encoding='utf-8')))
        except (ValueError, TypeError) as error:
            raise DynqError(f'{path}: not a record of a row; remove it, and the row is run anew.') from error

    def write(self) -> None:
        """Write the file whole or not at all."""
        content = {key: value for key, value in asdict(self).items() if key != 'path'}
        write_whole(self.path, json.dumps(content, indent=2) + '\n')


@dataclass(frozen=True)
class Fingerprints:
    """Of the options of a job and of the weights that it starts from; the code is not in them.

    Attributes:
        training: Empty where nothing is trained.
        tests: One a data set.
    """

    training: str
    tests: dict[str, str]

    @classmethod
    def of(cls, job: Job, root: Path) -> Fingerprints:
        """Take them."""
        training = ''
        if job.train is not None:
            weights = job.train['path']['pretrain_network_g']
            training = _digest(job.train, _file_digest(root / weights) if weights else '')
        tests = {}
        for name, options in job.tests.items():
            tests[name] = _digest(options, training or _file_digest(root / options['path']['pretrain_network_g']))
        return cls(training, tests)


def _digest(options: dict, before: str) -> str:
    return hashlib.sha256((before + json.dumps(options, sort_keys=True)).encode()).hexdigest()


def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
