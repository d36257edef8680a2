"""What ``benchmark_deploy.py`` measures: each contestant upscales images in a process of its own.

A contestant loads its network, then waits; told to, it upscales all images once and answers with the seconds of each.
So contestants take turns, none disturbs another, and the peak memory of a process is that of one contestant.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.model_folder import writing_folder
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.runtime.choices import MANIFEST
from dynq_basicsr.runtime.manifest import Manifest
from dynq_basicsr.runtime.router import Router, RunOptions

Upscale = Callable[[np.ndarray], np.ndarray]  # (H, W, 3) uint8 RGB -> the same, enlarged


@dataclass(frozen=True)
class Contestant:
    """A way to upscale.

    Attributes:
        name: In the table.
        folder: A model folder, for the router.
        option_file: Of a float network, for PyTorch.
        layout: ``contiguous`` or ``channels_last``, of PyTorch.
        bfloat16: Products of PyTorch by ``autocast``.
        run: How the router runs, threads and tiling included.
    """

    name: str
    run: RunOptions = field(default_factory=RunOptions)
    folder: Path | None = None
    option_file: Path | None = None
    layout: str = 'contiguous'
    bfloat16: bool = False


class Process:
    """A contestant in a process of its own.

    Args:
        contestant: Which.
        files: LR images, PNG.
        results: A folder for what the first pass, which warms up and is not timed, makes of them.

    Raises:
        DynqError: If it cannot run.
    """

    def __init__(self, contestant: Contestant, files: Sequence[Path], results: Path) -> None:
        self.name, context = contestant.name, get_context('spawn')
        self._connection, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, contestant, files, results), daemon=True)
        self._process.start()
        far.close()
        self._answer()

    def turn(self) -> dict:
        """Upscale all images once: ``seconds`` of each, ``network`` seconds in all, ``patches`` by code."""
        self._connection.send('turn')
        return self._answer()

    def close(self) -> int:
        """End the process; bytes of memory that it took at most."""
        self._connection.send('end')
        peak = self._answer()['peak']
        self._process.join()
        return peak

    def _answer(self) -> dict:
        try:
            answer = self._connection.recv()
        except EOFError:
            self._process.join()
            reason = f'its process ended with exit code {self._process.exitcode}'
            raise DynqError(f'{self.name}: {reason}; if that is -9, memory ran out.') from None
        if 'error' in answer:
            self._process.join()
            raise DynqError(f'{self.name}: {answer["error"]}')
        return answer


def _serve(connection: Connection, contestant: Contestant, files: Sequence[Path], results: Path) -> None:
    try:
        images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in files]
        cv2.setNumThreads(1)
        router = None
        if contestant.folder is not None:
            router = Router(contestant.folder, contestant.run)
            upscale = router.upscale
        else:
            upscale = pytorch(contestant)
        results.mkdir(parents=True)
        for path, image in zip(files, images, strict=True):
            cv2.imwrite(str(results / path.name), cv2.cvtColor(upscale(image), cv2.COLOR_RGB2BGR))
        connection.send({})
        while connection.recv() == 'turn':
            connection.send(_turn(upscale, router, images))
        status = Path('/proc/self/status').read_text(encoding='ascii')
        connection.send({'peak': 1024 * int(re.search(r'VmHWM:\s+(\d+)', status)[1])})
    except DynqError as error:
        connection.send({'error': str(error)})


def _turn(upscale: Upscale, router: Router | None, images: Sequence[np.ndarray]) -> dict:
    seconds, patches = [], Counter()
    before = router.network_seconds if router else 0.0
    for image in images:
        start = time.perf_counter()
        if router:
            router.upscale(image, report=lambda code, count: patches.update({code: count}))
        else:
            upscale(image)
        seconds.append(time.perf_counter() - start)
    network = router.network_seconds - before if router else None
    return {'seconds': seconds, 'network': network, 'patches': dict(patches)}


def float_network(option_file: Path):
    """The float network of an option file in eval mode, its size requirement, its channels and its scale.

    Raises:
        DynqError: If it is a quantized one, or its weights do not fit.
    """
    from dynq_basicsr.archs.arch_options import image_format
    from dynq_basicsr.archs.quantized_arch import QuantizedSR
    from dynq_basicsr.report.one_image import load_model, read_options

    net = load_model(option_file).network.eval()
    if isinstance(net, QuantizedSR):
        raise DynqError(f'{option_file}: the network is quantized; give --opt a float one.')
    options = read_options(option_file)
    section = options['network_g']
    takes = image_format(net, section)
    return net, takes.sizes, takes.in_channels, options['scale']


def pytorch(contestant: Contestant) -> Upscale:
    """Patch-wise evaluation in PyTorch, on the same patches, of the plain network."""
    import torch

    from dynq_basicsr.archs.padding import run_padded
    from dynq_basicsr.models.tiling import run_tiled

    torch.set_num_threads(contestant.run.threads)
    net, sizes, *_ = float_network(contestant.option_file)
    memory_format = {'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last}[contestant.layout]
    net = net.to(memory_format=memory_format)
    precision = torch.autocast('cpu', torch.bfloat16) if contestant.bfloat16 else contextlib.nullcontext()

    def run(patches, indices):
        return run_padded(net, patches.contiguous(memory_format=memory_format), sizes).float()

    def upscale(image: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].contiguous().float().div(255)
        with torch.inference_mode(), precision:
            result = run_tiled(batch, contestant.run.tiling, run)
        return result[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()

    return upscale


def export_float(option_file: Path, folder: Path) -> None:
    """Write the float network as a model folder of one graph, by torch's own exporter.

    Args:
        option_file: Of the network.
        folder: What to write.

    Raises:
        DynqError: If it cannot be exported with sides that vary.
    """
    import torch

    net, sizes, channels, scale = float_network(option_file)
    side = sizes.padded(48)
    n, height, width = (torch.export.Dim(name) for name in ('n', 'height', 'width'))
    if sizes.multiple > 1:
        height, width = sizes.multiple * height, sizes.multiple * width
    try:
        program = torch.onnx.export(
            net, (torch.rand(2, channels, side, side + 2 * sizes.multiple),),
            input_names=['image'], output_names=['result'], dynamic_shapes=({0: n, 2: height, 3: width},),
            dynamo=True, verbose=False,
        )  # fmt: skip
    except Exception as error:  # the exporter's errors have no common class
        raise DynqError(f'{option_file}: torch.onnx cannot export the float network ({str(error)[:200]}).') from error
    with writing_folder(folder) as writer:
        writer.finish({
            'scale': scale, 'channels': channels, 'controller': None,
            'size': {'multiple': sizes.multiple, 'least': sizes.minimum},
            'network': writer.add('network.onnx', program.model_proto.SerializeToString()),
            'codes': {'float': {'grids': {}}},
            'policy': {'type': 'fixed', 'code': 'float'}, 'tiling': {},
        })  # fmt: skip


def fix_code(model: Path, folder: Path) -> str:
    """Copy a model folder without its policy: every patch runs at the middle number of bits.

    Returns:
        Their code.
    """
    values = json.loads((model / MANIFEST).read_text(encoding='utf-8'))
    manifest = Manifest.load(model)
    ordered = sorted(manifest.assignments, key=lambda code: manifest.assignments[code].fab or 0)
    code = ordered[len(ordered) // 2]
    with writing_folder(folder) as writer:
        for graph in filter(None, (manifest.network, manifest.network.end, manifest.qdq)):
            writer.add(graph.path.name, graph.path.read_bytes())
        only = {'codes': {code: values['codes'][code]}, 'controller': None, 'policy': {'type': 'fixed', 'code': code}}
        writer.finish(values | only)
    return code


def tiling_of(model: Path, batch: int) -> TilingOptions:
    """The patches of a model folder, in batches of another size."""
    tiling = Manifest.load(model).tiling
    return TilingOptions(tiling.patch_size, tiling.patch_step, batch, tiling.patch_merge)
