"""BasicSR's SRModel for quantized networks: checks, loading, training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import master_only
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.value_range import value_range_hint
from dynq_basicsr.atomic import write_whole
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.config.run import RunOptions, parse
from dynq_basicsr.config.section import Facts
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.option_checks import check_registered
from dynq_basicsr.models.resumable_model import ResumableModel
from dynq_basicsr.models.self_description import complete_network
from dynq_basicsr.numerics.allocator import keep_freed_memory
from dynq_basicsr.numerics.native import why_not_native
from dynq_basicsr.quantization.cost import model_size
from dynq_basicsr.training.distributed import together


class QuantizedModel(ResumableModel):
    """Loads, trains, evaluates and saves ``QuantizedSR`` networks, and float ones for comparison.

    Training is BasicSR's: losses against the ground truth, its optimizer, scheduler and EMA. How it is saved, resumed
    and ended is told in ``ResumableModel``.

    ``network_g: {type: QuantizedSR}`` alone suffices where ``path.pretrain_network_g`` is a quantized checkpoint.
    Evaluation is that of ``PatchwiseModel``.

    Args:
        opt: BasicSR's options.

    Raises:
        DynqError: If an option is wrong or the checkpoint does not fit.
    """

    options_type: ClassVar[type[RunOptions]] = RunOptions

    def __init__(self, opt: dict) -> None:
        self.options = self.check_options(opt)
        if opt['num_gpu'] > 1 and not opt['dist']:
            raise DynqError('num_gpu: several GPUs need one process each; start with torchrun and --launcher pytorch.')
        if opt['num_gpu'] == 0:
            keep_freed_memory()
            if reason := why_not_native():
                get_root_logger().info(f'Quantizers run without their compiled kernel, a few times slower: {reason}.')
        super().__init__(opt)
        if hasattr(self, 'net_g_ema'):
            self.net_g_ema.to(memory_format=torch.channels_last)
        get_root_logger().info(f'Model size: {model_size(self.network) / 1000:.1f}K parameters of 32 bits.')
        net = self.network
        if isinstance(net, QuantizedSR) and (hint := value_range_hint(net.backbone, net.image_format)):
            get_root_logger().warning(hint)
        self._write_layers()

    @master_only
    def _write_layers(self) -> None:
        """Leave a table of the layers in the run's folder: too long for a log, and what one looks for later."""
        folder = self.opt['path']['experiments_root' if self.is_train else 'results_root']
        if folder is not None and isinstance(self.network, QuantizedSR):
            Path(folder).mkdir(parents=True, exist_ok=True)
            write_whole(Path(folder) / 'layers.txt', self.network.layer_table() + '\n')

    @classmethod
    def check_options(cls, opt: dict) -> RunOptions:
        """Refuse an option file that cannot work, before anything is built or written.

        A ``network_g`` without a backbone is completed from its checkpoint first (see ``complete_network``).

        Returns:
            The options with their types.

        Raises:
            DynqError: Names the key and the way out.
        """
        complete_network(opt)
        options = parse(cls.options_type, opt, Facts(opt['is_train'], torch.cuda.is_available(), files=True))
        check_registered(opt, options)
        return options

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move the network and wrap it where needed; its layout comes first, since the wrapper lays out gradients."""
        with together():
            return super().model_to_device(net.to(memory_format=torch.channels_last))

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Load float or quantized weights, BasicSR's or foreign; always strictly (see ``load_weights``)."""
        load_weights(self.get_bare_model(net), load_path, param_key)

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Average the parameters, as BasicSR does, and copy the buffers: statistics, thresholds, flags."""
        super().model_ema(decay)
        buffers = dict(self.network.named_buffers())
        for name, buffer in self.net_g_ema.named_buffers():
            buffer.copy_(buffers[name])

    def iterate(self, current_iter: int) -> None:
        """One iteration of BasicSR's training.

        Raises:
            DynqError: If there is no ground truth.
        """
        if not hasattr(self, 'gt'):
            raise DynqError('datasets.train: training needs ground truth; use a data set of pairs.')
        start = time.perf_counter()
        target = self.training_target()
        self.optimizer_g.zero_grad()
        self.output, others = self.training_forward()
        losses = {}
        if self.cri_pix:
            losses['l_pix'] = self.cri_pix(self.output, target)
            if not self.figures.has_limit('l_pix'):
                black = self.cri_pix(torch.zeros_like(target), target)
                self.figures.limit('l_pix', losses['l_pix'], black)
        if self.cri_perceptual:
            found = zip(('l_percep', 'l_style'), self.cri_perceptual(self.output, target), strict=True)
            losses.update((name, loss) for name, loss in found if loss is not None)
        sum(losses.values()).backward()
        self.optimizer_g.step()
        self.figures.note(current_iter, losses, others)
        if self.ema_decay > 0:
            self.model_ema(decay=self.ema_decay)
        self._worked += time.perf_counter() - start

    def training_target(self) -> Tensor:
        """What the output is compared with: the ground truth, here."""
        return self.gt

    def training_forward(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's output for ``self.lq``, and figures to tell beside the losses."""
        return self.net_g(self.lq), {}
