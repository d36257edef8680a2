"""Integer graphs beside the fake-quantized network, on real images.

    python -m dynq_basicsr.export.parity -opt options/test_quantized_x4.yml --set test_1 \\
        --checkpoint experiments/NAME/models/net_g_latest.pth --model model_dir/

prints how many 8-bit values agree, and both PSNRs. Every layer by itself is exact (``export`` checks that). Where float
modules run ahead that compute in float32, as attention of transformers, the order of their sums decides to which side
falls what lies on the border of two levels, and at few bits that spreads from layer to layer. So the same is measured
of PyTorch against itself with channels last, which sums in another order, too; and the first values in the network that
fell to the other side are counted, with their distance from the border.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from basicsr.data import build_dataset
from basicsr.metrics import calculate_metric
from torch import Tensor
from tqdm import tqdm

from dynq_basicsr.archs.padding import run_padded
from dynq_basicsr.command import run_command
from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.check import Agreement, agreement, run_at
from dynq_basicsr.export.flips import FirstFlips, find_first_flips
from dynq_basicsr.models.patchwise_model import to_image
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.models.tiling import run_tiled, tile_boxes
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.report.entropies import choose_set
from dynq_basicsr.report.one_image import load_model, read_options
from dynq_basicsr.runtime.manifest import Manifest
from dynq_basicsr.runtime.sessions import open_sessions


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        name: Of its file.
        graphs: Agreement of the integer graphs with PyTorch.
        itself: Agreement of PyTorch with itself, summing in another order.
        psnr: Of PyTorch and of the integer graphs, dB.
        flips: Where they part, at the first patch of the image.
    """

    name: str
    graphs: Agreement
    itself: Agreement
    psnr: tuple[float, float]
    flips: FirstFlips


class Comparison:
    """Runs patches through the network, its graphs, and the network with channels last.

    Args:
        model: The network, with its tiling.
        folder: The model folder that was exported from it.
    """

    def __init__(self, model: QuantizedModel, folder: Path) -> None:
        self.model, self.net = model, model.network.cpu().eval().to(memory_format=torch.contiguous_format)
        self.twin = copy.deepcopy(self.net).to(memory_format=torch.channels_last)
        self.codes = {bits: code for code, bits in self.net.policy.bit_configs().items()}
        manifest = Manifest.load(folder)
        missing = [code for code in self.codes.values() if code not in manifest.assignments]
        if missing:
            raise DynqError(f'{folder}: has no grids for {missing[0]}; it was exported from another network.')
        self.grids = {code: manifest.assignments[code].grids for code in self.codes.values()}
        self.content = manifest.network.read()
        self.sessions = open_sessions(self.content, str(manifest.network.path), self.grids)

    @torch.no_grad()
    def run(self, patches: Tensor) -> Tensor:
        """Results of all three, (N, 3 * C, s * h, s * w)."""
        expected, bits, _ = self.net(patches, mode=Mode.EXACT, details=True)
        chosen = bits.expand(-1, len(patches)).T
        results = torch.zeros_like(expected), torch.zeros_like(expected)
        for bits in {tuple(row) for row in chosen.tolist()}:
            samples = (chosen == torch.tensor(bits)).all(dim=1)
            for result, run in zip(results, (self._graph(bits), self._twin(bits)), strict=True):
                result[samples] = run_padded(run, patches[samples], self.net.sizes)
        return torch.cat([expected, *results], dim=1)

    def _graph(self, bits: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
        session = self.sessions[self.codes[bits]]
        return lambda x: torch.from_numpy(session(x.numpy()))

    def _twin(self, bits: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
        return lambda x: run_at(self.twin, x.contiguous(memory_format=torch.channels_last), bits)

    def compare(self, name: str, lq: Tensor, gt: Tensor, metric: Mapping) -> Row:
        """Compare one image.

        Args:
            name: Of its file.
            lq: (1, C, H, W) in [0, 1].
            gt: (1, C, s * H, s * W).
            metric: Options of BasicSR's PSNR.
        """
        results = run_tiled(lq, self.model.tiling, lambda patches, indices: self.run(patches)).chunk(3, dim=1)
        pictures, truth = [to_image(result) for result in results], to_image(gt)
        psnrs = tuple(calculate_metric({'img': one, 'img2': truth}, dict(metric)) for one in pictures[:2])
        top, left, bottom, right = tile_boxes(*lq.shape[-2:], self.model.tiling)[0]
        patch = lq[..., top:bottom, left:right]
        bits = tuple(self.net(patch, mode=Mode.EXACT, details=True).bits[:, 0].tolist())
        grids, flips = self.grids[self.codes[bits]], []
        run_padded(
            lambda x: flips.append(find_first_flips(self.net, bits, self.content, grids, x)) or x, patch, self.net.sizes
        )
        expected, result, itself = (one.numpy() for one in results)
        return Row(name, agreement(expected, result), agreement(expected, itself), psnrs, flips[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Args:
        arguments: Without the program's name; None: those of this process.

    Returns:
        The exit code: 0, or 2 after an error that the user can mend.
    """
    prog = 'python -m dynq_basicsr.export.parity'
    parser = argparse.ArgumentParser(prog=prog, description='Compare integer graphs with PyTorch on a data set.')
    parser.add_argument('-opt', required=True, help='an option file for tests')
    parser.add_argument('--checkpoint', type=Path, help='instead of path.pretrain_network_g')
    parser.add_argument('--model', required=True, type=Path, help='the model folder that was exported from it')
    parser.add_argument('--set', dest='name', help='key in datasets (default: the first one)')
    parser.add_argument('--images', type=int, help='how many (default: all)')
    given = parser.parse_args(arguments)

    def report() -> None:
        options = read_options(given.opt)
        comparison = Comparison(load_model(given.opt, given.checkpoint), given.model)
        dataset = choose_set(options, given.opt, given.name)[1]
        metrics = (options.get('val') or {}).get('metrics') or {}
        metric = metrics.get('psnr', {'type': 'calculate_psnr', 'crop_border': 4, 'test_y_channel': True})
        rows = []
        for index, item in enumerate(tqdm(build_dataset(dict(dataset)), unit='image', disable=None, leave=False)):
            if given.images is not None and index >= given.images:
                break
            rows.append(comparison.compare(Path(item['lq_path']).stem, item['lq'][None], item['gt'][None], metric))
            sys.stdout.write(line(rows[-1]) + '\n')
        sys.stdout.write(summary(rows) + '\n')

    return run_command(report)


def line(row: Row) -> str:
    """What one image shows."""
    flips = row.flips
    parted = (
        f'part in {flips.layer}: {flips.count} of {flips.values}, at most {flips.distance:.1e} of a step from a tie'
    )
    return (
        f'{row.name}: {_shares(row.graphs)}; PyTorch itself {_shares(row.itself)}; {row.psnr[0]:.4f} and '
        f'{row.psnr[1]:.4f} dB; {parted if flips.count else "every integer equal"}'
    )


def summary(rows: Sequence[Row]) -> str:
    """Means over images."""
    means = {
        kind: Agreement(*(sum(getattr(getattr(row, kind), key) for row in rows) / len(rows)
                          for key in ('equal', 'within_one')))
        for kind in ('graphs', 'itself')
    }  # fmt: skip
    psnrs = [sum(row.psnr[which] for row in rows) / len(rows) for which in (0, 1)]
    return (
        f'mean of {len(rows)}: {_shares(means["graphs"])}; PyTorch itself {_shares(means["itself"])}; PSNR '
        f'{psnrs[0]:.4f} and {psnrs[1]:.4f} dB'
    )


def _shares(one: Agreement) -> str:
    return f'{100 * one.equal:.3f} % equal, {100 * one.within_one:.4f} % within 1'


if __name__ == '__main__':
    sys.exit(main())
