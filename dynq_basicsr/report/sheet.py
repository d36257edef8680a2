"""A blank picture on which panels are placed by the pixel."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from dynq_basicsr.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, QUIET, PAPER = '#1c2430', '#66707c', '#ffffff'
_DPI = 100


class Sheet:
    """One figure, without any of matplotlib's global state; image pixels meet picture pixels exactly.

    Args:
        size: (width, height), pixels.
        unit: Factor on everything given in points: text and lines.
    """

    def __init__(self, size: tuple[int, int], unit: float = 1.0) -> None:
        # Not at the top: matplotlib costs half a second, and training imports this module without ever drawing.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.size, self.unit = size, unit
        self._dpi = _DPI * unit
        # A hundredth of a pixel more, because the canvas rounds down.
        inches = [(side + 0.01) / self._dpi for side in size]
        self.figure = Figure(figsize=inches, dpi=self._dpi, facecolor=PAPER)
        FigureCanvasAgg(self.figure)

    def axes(self, corner: tuple[float, float], size: tuple[float, float]) -> Axes:
        """Add empty axes.

        Args:
            corner: (left, top), pixels from the top left of the picture.
            size: (width, height), pixels.
        """
        width, height = self.size
        place = (corner[0] / width, 1 - (corner[1] + size[1]) / height, size[0] / width, size[1] / height)
        axes = self.figure.add_axes(place)
        axes.set_facecolor(PAPER)
        axes.tick_params(colors=QUIET, labelcolor=INK, length=0, labelsize=9)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def picture(self, corner: tuple[int, int], pixels: np.ndarray) -> Axes:
        """Add an image, one picture pixel for each of its pixels.

        Args:
            corner: (left, top), pixels from the top left of the picture.
            pixels: (H, W, 3) uint8, BGR.

        Returns:
            Axes in pixels of the image.
        """
        height, width = pixels.shape[:2]
        axes = self.axes(corner, (width, height))
        axes.imshow(pixels[..., ::-1], extent=(0, width, height, 0), interpolation='none', aspect='auto')
        axes.set(xticks=[], yticks=[])
        return axes

    def text(self, place: tuple[float, float], line: str, size: float, colour: str = INK, **options: object) -> None:
        """Write one line.

        Args:
            place: (left, baseline), pixels from the top left of the picture.
            line: What to write.
            size: Points.
            colour: Any of matplotlib's.
            **options: Further ones of matplotlib's ``text``.
        """
        width, height = self.size
        options = {'va': 'baseline', 'ha': 'left'} | options
        self.figure.text(place[0] / width, 1 - place[1] / height, line, fontsize=size, color=colour, **options)

    def title(self, corner: tuple[float, float], first: str, second: str) -> None:
        """Write two lines, the second one smaller, above the panel whose top left corner is given."""
        self.text((corner[0], corner[1] - 31 * self.unit), first, 13.5)
        self.text((corner[0], corner[1] - 11 * self.unit), second, 9.5, QUIET)

    def save(self, target: str | PathLike[str] | IO[bytes]) -> None:
        """Write the picture as PNG, into a file, whose folder is made, or a stream."""
        if not isinstance(target, str | PathLike):
            self.figure.savefig(target, dpi=self._dpi, format='png', facecolor=PAPER)
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            self.save(file)
