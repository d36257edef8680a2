"""BasicSR's SRModel with an evaluation of its own: patch by patch, shared among processes, recorded."""

from __future__ import annotations

import inspect
import math
import time
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.models.sr_model import SRModel
from basicsr.utils import get_root_logger, tensor2img
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.registry import METRIC_REGISTRY
from torch import Tensor, nn
from tqdm import tqdm

from dynq_basicsr.archs.arch_options import image_format
from dynq_basicsr.archs.padding import run_padded
from dynq_basicsr.archs.probe import Probed
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.compat.interrupted_epoch import randomness_kept
from dynq_basicsr.compat.registries import find
from dynq_basicsr.config.evaluation import ValOptions
from dynq_basicsr.data.channels import as_channels
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import write_image
from dynq_basicsr.models.result_paths import bit_map_path, image_name, picture_path
from dynq_basicsr.models.tiling import finite, run_tiled, tile_boxes
from dynq_basicsr.quantization.cost import measure_cost
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.quantization.usage import BitUsage
from dynq_basicsr.report.bit_map import save_bit_map
from dynq_basicsr.training.distributed import broadcast_module, gather_shares, share_of
from dynq_basicsr.training.records import TestRecords

STRIP = 256  # rows that are converted at once


def to_image(image: Tensor) -> np.ndarray:
    """BasicSR's ``tensor2img``, strip by strip: its five float copies would be the largest part of a 4K evaluation.

    Args:
        image: (1, C, H, W) in [0, 1], RGB or grey.

    Returns:
        (H, W, 3) BGR or (H, W) grey, uint8.
    """
    return np.concatenate([tensor2img([strip]) for strip in image.split(STRIP, dim=-2)])


def needs_ground_truth(metric: str) -> bool:
    """Whether a registered metric compares with a second image."""
    other = inspect.signature(find(METRIC_REGISTRY, metric)).parameters.get('img2')
    return other is not None and other.default is other.empty


class PatchwiseModel(SRModel):
    """Evaluates ``QuantizedSR`` networks, and float ones for comparison.

    Further options of the ``val`` section: ``patch_size``, ``patch_step``, ``patch_batch``, ``patch_merge`` (see
    ``TilingOptions``; whole images with ``patch_size: ~``) and ``bit_maps`` (a picture of the bits beside each result).
    Test runs write ``metrics.json`` and ``per_image.csv`` into their results folder.

    Args:
        opt: BasicSR's options.
    """

    def __init__(self, opt: dict) -> None:
        self.tiling = ValOptions.from_dict(opt.get('val')).tiling
        self._cost = None
        super().__init__(opt)
        root = None if self.is_train else opt['path']['results_root']
        self.records = None if root is None else TestRecords(root)

    @property
    def network(self) -> nn.Module:
        """The bare network, without a parallel wrapper."""
        return self.get_bare_model(self.net_g)

    @cached_property
    def _takes(self) -> Probed:
        """What the network takes and gives."""
        net = self.network
        return net.image_format if isinstance(net, QuantizedSR) else image_format(net, self.opt['network_g'])

    @property
    def _evaluated(self) -> nn.Module:
        """The network that is evaluated: the averaged one where there is one."""
        return self.net_g_ema if hasattr(self, 'net_g_ema') else self.network

    def feed_data(self, data: dict) -> None:
        """Take a batch; nothing is kept from the batch before, so that two large images are never held at once.

        A network of one channel gets luma of RGB images, as with ``color: y`` in BasicSR's data sets.
        """
        for name in ('gt', 'output'):
            self.__dict__.pop(name, None)
        lq = as_channels(self._to_device(data['lq']), self._takes.in_channels)
        self.lq = lq.contiguous(memory_format=torch.channels_last)
        if 'gt' in data:
            self.gt = as_channels(self._to_device(data['gt']), self._takes.out_channels)

    def _to_device(self, images: Tensor) -> Tensor:
        """A batch on the device; a GPU fetches it from pinned memory while it is still at work on the one before."""
        if self.device.type != 'cuda':
            return images.to(self.device)
        return images.pin_memory().to(self.device, non_blocking=True)

    def _run(self, net: nn.Module, patches: Tensor, indices: list[int]) -> Tensor:
        """Run the network on patches of any size, and note the bits that it used.

        A plain network is padded here, a wrapped one pads by itself.
        """
        if isinstance(net, QuantizedSR):
            result, bits, _ = net(patches, mode=Mode.EXACT, details=True)
            self.usage.add(indices, net.plan.adaptive, bits)
        else:
            result = run_padded(net, patches, self._takes.sizes)
        return finite(result)

    @torch.no_grad()
    def test(self) -> None:
        """Super-resolve ``self.lq`` into ``self.output``, patch by patch; ``self.usage`` tells the bits."""
        net = self._evaluated
        modes = {module: module.training for module in net.modules()}  # parts may be frozen, as batch norm
        net.eval()
        if self._cost is None:
            self._cost = measure_cost(net, self.lq.shape[1])
        height, width = self.lq.shape[-2:]
        static = net.static_bits() if isinstance(net, QuantizedSR) else {}
        self.usage = BitUsage(self._cost, tile_boxes(height, width, self.tiling), height, width, static=static)
        self.output = run_tiled(self.lq, self.tiling, lambda *batch: self._run(net, *batch))
        for module, training in modes.items():
            module.training = training

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img: bool) -> None:
        """Evaluate a data set: metrics as in BasicSR, records, and pictures if asked for.

        Ranks share the images out among themselves; all of them know the metrics in the end, and rank 0 records them.
        Random generators stay as they are, so that a training goes on as if nothing had been evaluated.
        """
        dataset = dataloader.dataset.opt['name']
        metrics = self.opt['val'].get('metrics') or {}
        if metrics and self.is_train:
            self._initialize_best_metric_results(dataset)
        broadcast_module(self._evaluated)  # statistics of batch norm, for one, are each rank's own until now
        with randomness_kept():
            rows = gather_shares(lambda: self._evaluate(dataloader, current_iter, save_img))
        if not rows:
            raise DynqError(f'{dataset}: the data set holds no images; check its dataroot_lq.')
        self.metric_results = {key: sum(row[key] for row in rows) / len(rows) for key in metrics}
        if self.is_train:  # a test run has no best iteration
            for key, value in self.metric_results.items():
                self._update_best_metric_result(dataset, key, value, current_iter)
        rows.sort(key=lambda row: row['image'])
        if metrics:
            self._log_validation_metric_values(current_iter, dataset, tb_logger)
        if self.records and get_dist_info()[0] == 0:
            self.records.add(dataset, dict(self.metric_results), rows)
            get_root_logger().info(
                f'{dataset}: figures written to {self.records.folder}/metrics.json and per_image.csv.'
            )

    def nondist_validation(self, dataloader, current_iter, tb_logger, save_img: bool) -> None:
        """As ``dist_validation``, of one process."""
        self.dist_validation(dataloader, current_iter, tb_logger, save_img)

    def _evaluate(self, dataloader, current_iter: int | str, save_img: bool) -> list[dict[str, object]]:
        """This rank's share of a data set: one row of ``per_image.csv`` an image."""
        dataset, own = dataloader.dataset.opt['name'], share_of(dataloader)
        quiet = None if get_dist_info()[0] == 0 else True
        bar = tqdm(own, desc=dataset, unit='image', disable=quiet, leave=False)
        return [self._evaluate_image(dataset, data, current_iter, save_img) for data in bar]

    def _evaluate_image(self, dataset: str, data: dict, current_iter: int | str, save_img: bool) -> dict[str, object]:
        """Metrics and seconds of one image; saves its pictures."""
        file, metrics = data['lq_path'][0], self.opt['val'].get('metrics') or {}
        self.feed_data(data)
        start = time.perf_counter()
        try:
            self.test()
        except DynqError as error:
            raise DynqError(f'{file}: {error}') from error
        seconds = time.perf_counter() - start
        visuals = self.get_current_visuals()
        arrays = {'img': to_image(visuals['result']), 'usage': self.usage}
        if 'gt' in visuals:
            arrays['img2'] = to_image(visuals['gt'])
            if arrays['img2'].shape[:2] != arrays['img'].shape[:2]:
                raise DynqError(
                    f'{file}: result and ground truth differ in size, {arrays["img"].shape[:2]} and '
                    f'{arrays["img2"].shape[:2]}; the scale of network_g and of the data set must agree.'
                )
        lacking = [key for key, one in metrics.items() if 'img2' not in arrays and needs_ground_truth(one['type'])]
        if lacking:
            raise DynqError(f'val.metrics.{lacking[0]}: {file} has no ground truth to compare with; remove the metric.')
        values = {key: float(calculate_metric(arrays, one)) for key, one in metrics.items()}
        row = {'image': image_name(file), **values}
        undefined = [key for key in metrics if math.isnan(row[key])]
        if undefined:
            raise DynqError(
                f'{file}: {undefined[0]} is not a number; the image is too small for it or for its crop_border.'
            )
        self._save_pictures(picture_path(self.opt, dataset, file, current_iter), save_img, arrays['img'], visuals['lq'])
        return row | {'seconds': round(seconds, 4)}

    def _save_pictures(self, path: Path, save_img: bool, result: np.ndarray, lq: Tensor) -> None:
        try:
            if save_img:
                write_image(path, result)
            if self.opt['val'].get('bit_maps'):
                save_bit_map(to_image(lq), self.usage, bit_map_path(path))
        except OSError as error:
            raise DynqError(
                f'{path}: cannot be written ({error}); free some space or check the permissions.'
            ) from error
