"""What the user sees while images are upscaled: bars in a terminal, and a line for each image everywhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from dynq_basicsr.command import format_error


class Progress:
    """Bars with rate and time left: of images, if there are several, and of the patches of the one in progress.

    Args:
        images: How many images there are.
    """

    def __init__(self, images: int) -> None:
        several = None if images > 1 else True
        self._images = tqdm(total=images, desc='images', unit='image', disable=several, dynamic_ncols=True)
        self._patches: tqdm | None = None
        self._start, self._done = time.perf_counter(), 0
        self.counts: Counter[str] = Counter()

    def begin(self, source: Path, patches: int) -> None:
        """An image of so many patches is next."""
        self.counts = Counter()
        self._patches = tqdm(
            total=patches, desc=source.name, unit='patch', disable=None, leave=False, dynamic_ncols=True
        )

    def add(self, code: str, count: int) -> None:
        """So many of its patches ran through the graph of ``code``."""
        self.counts[code] += count
        self._patches.set_postfix_str(self.codes(), refresh=False)
        self._patches.update(count)

    def codes(self) -> str:
        """Patches of the image for each code, ``'w4_low: 12, w4_mid: 30'``."""
        return ', '.join(f'{code}: {count}' for code, count in sorted(self.counts.items()))

    def end(self, line: str | None = None, error: Exception | None = None) -> None:
        """The image is done, or failed.

        Args:
            line: For stdout.
            error: For stderr.
        """
        if self._patches is not None:
            self._patches.close()
            self._patches = None
        if line is not None:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
        if error is not None:
            tqdm.write(format_error(error), file=sys.stderr)
        self._done += error is None
        self._images.update()

    def leave_out(self) -> None:
        """The image needs nothing, and does not count in the rate."""
        self._images.total -= 1
        self._images.refresh()

    def rate(self) -> str:
        """Images a second so far, ``' (2.5 images a second)'``; empty of less than two."""
        seconds = max(time.perf_counter() - self._start, 1e-9)
        return f' ({self._done / seconds:.3g} images a second)' if self._done > 1 else ''

    def close(self) -> None:
        """Leave the terminal as it was."""
        for bar in (self._patches, self._images):
            if bar is not None:
                bar.close()
