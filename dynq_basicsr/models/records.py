"""What runs leave behind besides their logs: ``metrics.json`` and ``per_image.csv`` of tests, curves of training."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path


class TestRecords:
    """Collects the metrics of a run, data set by data set.

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
        table = io.StringIO()
        writer = csv.DictWriter(table, list(dict.fromkeys(column for row in self.rows for column in row)))
        writer.writeheader()
        writer.writerows(self.rows)
        self._replace('metrics.json', json.dumps(self.means, indent=2) + '\n')
        self._replace('per_image.csv', table.getvalue())

    def _replace(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        temporary = self.folder / f'.{name}.tmp'
        temporary.write_text(text, newline='')
        temporary.replace(self.folder / name)


def add_to_curve(file: Path, iteration: int, seconds: float, dataset: str, means: dict[str, float]) -> None:
    """Append a validation to the curve of a training: what was reached after how much work.

    Args:
        file: A CSV file; a new one gets a header.
        iteration: Of the training.
        seconds: Of calibration and fine-tuning until here, validations not counted.
        dataset: Name of the data set.
        means: Metric -> mean over images, the same metrics each time.
    """
    row = {'iteration': iteration, 'seconds': round(seconds, 3), 'dataset': dataset, **means}
    new = not file.exists()
    with open(file, 'a', newline='', encoding='utf-8') as stream:
        writer = csv.DictWriter(stream, list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
