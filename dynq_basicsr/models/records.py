"""What a test run leaves behind besides its log: ``metrics.json`` and ``per_image.csv``."""

from __future__ import annotations

import csv
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
        (self.folder / 'metrics.json').write_text(json.dumps(self.means, indent=2) + '\n')
        columns = list(dict.fromkeys(column for row in self.rows for column in row))
        with open(self.folder / 'per_image.csv', 'w', newline='') as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
