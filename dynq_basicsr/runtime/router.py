"""The patch router: cut, let the policy choose the bits, run patches of one choice together, stitch."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.arrays import cut, levels_of, white_of
from dynq_basicsr.imaging.bicubic import enlarge
from dynq_basicsr.imaging.complexity import gradient_density
from dynq_basicsr.imaging.patch_grid import Box, TilingOptions, tile_boxes
from dynq_basicsr.imaging.stitch import Canvas, check_feather
from dynq_basicsr.runtime.decide import Policy, build_policy
from dynq_basicsr.runtime.grids import Grids
from dynq_basicsr.runtime.manifest import Graph, Manifest
from dynq_basicsr.runtime.sessions import Session, open_sessions

FLAT = 'bicubic'  # the code of patches that no graph sees


@dataclass(frozen=True)
class RunOptions:
    """How a model runs.

    Attributes:
        runtime: One of ``choices.RUNTIMES``.
        threads: Of the CPU.
        precision: Of float products, OpenVINO only: ``f32`` or ``bf16``.
        tiling: Where patches lie; None: as the manifest says.
        feather: LR pixels over which overlapping patches fade into each other; 0: merged as ``tiling`` says.
        batch: Patches of one code and size that run together; None: as the tiling says.
        flat_threshold: Patches whose gradient density is below it are enlarged bicubically; 0: none.
    """

    runtime: str = 'onnxruntime'
    threads: int = 1
    precision: str = 'f32'
    tiling: TilingOptions | None = None
    feather: int = 0
    batch: int | None = None
    flat_threshold: float = 0.0


class GraphError(DynqError):
    """A graph that is not what the manifest says, whatever the image."""


class Router:
    """Upscales images with the graph of a model folder, patch by patch.

    Beside the image and the result, memory is that of one batch in the network and of a batch of LR patches that waits
    for each code.

    Args:
        folder: The model folder.
        options: How to run it.

    Attributes:
        manifest: What the folder says of itself.
        network_seconds: Spent in the graph so far, the controller's not included.

    Raises:
        DynqError: If the folder is incomplete, damaged or edited, or the runtime is not installed.
    """

    def __init__(self, folder: str | Path, options: RunOptions | None = None) -> None:
        options = options or RunOptions()
        self.manifest = manifest = Manifest.load(folder)
        self.tiling = options.tiling or manifest.tiling
        if options.batch:
            self.tiling = replace(self.tiling, patch_batch=options.batch)
        check_feather(options.feather, self.tiling)
        self._options, self.network_seconds = options, 0.0
        grids = {code: one.grids for code, one in manifest.assignments.items()}
        self._graph = self._choose(Path(folder), any(grids.values()))
        self._sessions = self._open(self._graph, grids)
        controller = manifest.controller and self._open(manifest.controller, {'': {}})['']
        try:
            self._policy: Policy = build_policy(manifest.policy, manifest.assignments, controller)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DynqError(f'{folder}: the policy is incomplete ({error}); export the network again.') from error
        except DynqError as error:
            raise DynqError(f'{folder}: {error}') from error

    def _choose(self, folder: Path, quantized: bool) -> Graph:
        """The graph for this runtime."""
        network, qdq = self.manifest.network, self.manifest.qdq
        if self._options.runtime == 'onnxruntime':
            return network
        if qdq is None and quantized:
            raise DynqError(
                f'{folder}: holds the network for ONNX Runtime alone, not for {self._options.runtime}; export it again '
                'with `dynq export --qdq`.'
            )
        return qdq or network

    def _open(self, graph: Graph, assignments: Mapping[str, Grids]) -> dict[str, Session]:
        options = self._options
        content, name = graph.read(), str(graph.path)
        return open_sessions(content, name, assignments, options.runtime, options.threads, options.precision)

    @property
    def channels(self) -> int:
        """Of the images that the network takes: 3 (RGB) or 1 (Y, or grey)."""
        return self.manifest.channels

    @property
    def scale(self) -> int:
        """Enlargement of the sides."""
        return self.manifest.scale

    def boxes(self, image: np.ndarray) -> list[Box]:
        """Where the patches of an image (H, W, ...) lie."""
        return tile_boxes(*image.shape[:2], self.tiling)

    def upscale(
        self, image: np.ndarray, levels: int | None = None, report: Callable[[str, int], None] = lambda *what: None
    ) -> np.ndarray:
        """Super-resolve an image.

        Args:
            image: (H, W, C), RGB or one channel as the network takes it: uint8, uint16, or float in [0, 1].
            levels: The largest value of the result, as 255; None: as fine as the image.
            report: Told the code of each batch and how many patches it held, after it ran.

        Returns:
            (scale * H, scale * W, C), whole numbers of the smallest type that holds ``levels``.

        Raises:
            GraphError: If the network's result is not finite or not of the stated size.
            DynqError: If the runtime fails, for want of memory, say.
        """
        canvas = self._canvas(image, levels or levels_of(image.dtype))
        self._place(self.boxes(image), image, canvas, report)
        return canvas.finish()

    def strips(self, image: np.ndarray, levels: int, report: Callable[[str, int], None]) -> Iterator[np.ndarray]:
        """Super-resolve an image whose result need not fit into memory.

        Args:
            image: See ``upscale``.
            levels: See ``upscale``.
            report: See ``upscale``.

        Yields:
            The rows of what ``upscale`` gives, from above, those of one row of patches at a time.

        Raises:
            DynqError: As ``upscale``.
        """
        boxes, scale = self.boxes(image), self.scale
        canvas = self._canvas(image, levels, scale * max(bottom - top for top, _, bottom, _ in boxes))
        tops = sorted({top for top, *_ in boxes})
        for top, end in zip(tops, [*tops[1:], len(image)], strict=True):
            self._place([box for box in boxes if box[0] == top], image, canvas, report)
            yield canvas.take(scale * end)

    def _canvas(self, image: np.ndarray, levels: int, held: int | None = None) -> Canvas:
        return Canvas(*image.shape, self.scale, self.tiling, self._options.feather, levels, held)

    def _place(
        self, boxes: list[Box], image: np.ndarray, canvas: Canvas, report: Callable[[str, int], None]
    ) -> None:
        """Run patches, those of one choice together, and place the results."""
        waiting: dict[tuple[str, tuple[int, ...]], list[tuple[Box, np.ndarray]]] = defaultdict(list)
        for box in boxes:
            patch = cut(image, box)
            if self._options.flat_threshold and gradient_density(patch) < self._options.flat_threshold:
                canvas.place(box, flat_tier(image, box, self.manifest.scale))
                report(FLAT, 1)
                continue
            padded = self._pad(patch)
            code = self._policy(patch, padded)
            batch = waiting[code, padded.shape]
            batch.append((box, padded))
            if len(batch) == self.tiling.patch_batch:
                self._run(code, waiting.pop((code, padded.shape)), canvas)
                report(code, len(batch))
        for (code, _), batch in waiting.items():
            self._run(code, batch, canvas)
            report(code, len(batch))

    def _run(self, code: str, batch: list[tuple[Box, np.ndarray]], canvas: Canvas) -> None:
        """Run a batch of padded patches at their bits and place the results."""
        patches = np.stack([patch for _, patch in batch])
        start = time.perf_counter()
        results = self._sessions[code](patches)
        self.network_seconds += time.perf_counter() - start
        scale, path = self.manifest.scale, self._graph.path
        expected = (*patches.shape[:2], scale * patches.shape[2], scale * patches.shape[3])
        if results.shape != expected:
            raise GraphError(
                f'{path}: the graph made {results.shape} of {patches.shape}, but the manifest says scale {scale}; '
                'export the network again.'
            )
        if not np.isfinite(results.sum()):
            raise GraphError(f'{path}: the result holds NaN or infinity; the checkpoint that was exported is damaged.')
        for (box, _), result in zip(batch, results, strict=True):
            canvas.place(box, result[:, : scale * (box[2] - box[0]), : scale * (box[3] - box[1])])

    def _pad(self, patch: np.ndarray) -> np.ndarray:
        """Pad below and to the right to what the network takes, as ``archs.padding.run_padded``."""
        multiple, least = self.manifest.multiple, self.manifest.least
        sides = patch.shape[1:]
        down, right = (-(-max(side, least) // multiple) * multiple - side for side in sides)
        if not (down or right):
            return patch
        mode = 'reflect' if down < sides[0] and right < sides[1] else 'edge'
        return np.pad(patch, ((0, 0), (0, down), (0, right)), mode=mode)


def flat_tier(image: np.ndarray, box: Box, scale: int) -> np.ndarray:
    """The cheaper tier for a patch without texture: bicubic, (H, W, C) and a box -> (C, scale * h, scale * w)."""
    return enlarge(image, box, scale) / np.float32(white_of(image.dtype))
