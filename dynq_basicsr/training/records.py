"""What runs leave behind besides their logs: ``metrics.json`` and ``per_image.csv`` of tests, curves of training."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from dynq_basicsr.atomic import write_whole


class TestRecords:
    """Collects the metrics of a run, data set by data set.

    A metric may be infinite, as the PSNR of an image that equals its ground truth. JSON has no such number:
    ``metrics.json`` then holds the text ``inf`` in its place, as the CSV files do.

    Args:
        folder: Where both files go; rewritten after each data set, so that an interrupted run keeps what it has.
    """

    __test__ = False  # pytest: not a test class

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.means: dict[str, dict[str, float]] = {}
        self.rows: list[dict[str, object]] = []

    def add(self, dataset: str, means: dict[str, float], rows: list[dict[str, object]]) -> None:
        """Enter one data set and write both files.

        Args:
            dataset: Its name.
            means: Metric -> mean over images.
            rows: One mapping an image: ``image``, its metrics, ``seconds``.
        """
        self.means[dataset] = means
        self.rows = [row for row in self.rows if row['dataset'] != dataset]
        self.rows += [{'dataset': dataset, **row} for row in rows]
        self.folder.mkdir(parents=True, exist_ok=True)
        means = {name: {key: _plain(value) for key, value in one.items()} for name, one in self.means.items()}
        write_whole(self.folder / 'metrics.json', json.dumps(means, indent=2, allow_nan=False) + '\n')
        write_whole(self.folder / 'per_image.csv', csv_text(self.rows))


def _plain(value: float) -> float | str:
    """What JSON can hold: infinity as text."""
    return value if math.isfinite(value) else str(float(value))


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """A table as CSV, with the columns of all rows in the order in which they first appear."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(column for row in rows for column in row)))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def add_to_curve(file: Path, iteration: int, seconds: float, dataset: str, means: dict[str, float]) -> None:
    """Enter a validation into the curve of a training: what was reached after how much work.

    Args:
        file: A CSV file, rewritten whole; a row of the same iteration and data set is replaced.
        iteration: Of the training.
        seconds: Of training until here, validations not counted.
        dataset: Name of the data set.
        means: Metric -> mean over images.
    """
    row = {'iteration': iteration, 'seconds': round(seconds, 3), 'dataset': dataset, **means}
    rows = []
    if file.exists():
        with open(file, newline='', encoding='utf-8') as stream:
            rows = list(csv.DictReader(stream))
    rows = [one for one in rows if (one['iteration'], one['dataset']) != (str(iteration), dataset)]
    write_whole(file, csv_text([*rows, row]))
