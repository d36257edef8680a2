"""BasicSR's SRModel for quantized networks: checks, loading, training, safe saving."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info, master_only
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.compat.interrupted_epoch import position
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.option_checks import check_options, check_sections
from dynq_basicsr.models.patchwise_model import PatchwiseModel
from dynq_basicsr.models.self_description import complete_network
from dynq_basicsr.models.tiling import TilingOptions
from dynq_basicsr.models.train_checks import check_train
from dynq_basicsr.numerics.allocator import keep_freed_memory
from dynq_basicsr.numerics.native import why_not_native
from dynq_basicsr.quantization.cost import model_size
from dynq_basicsr.training.distributed import gather
from dynq_basicsr.training.figures import TrainingFigures
from dynq_basicsr.training.records import add_to_curve
from dynq_basicsr.training.saving import save_atomically


class QuantizedModel(PatchwiseModel):
    """Loads, trains, evaluates and saves ``QuantizedSR`` networks, and float ones for comparison.

    Training is BasicSR's: losses against the ground truth, its optimizer, scheduler and EMA. A resumed run equals one
    that was not interrupted, bit for bit on one CPU process (see ``interrupted_epoch``).

    ``network_g: {type: QuantizedSR}`` alone suffices where ``path.pretrain_network_g`` is a quantized checkpoint.
    Evaluation is that of ``PatchwiseModel``.

    Args:
        opt: BasicSR's options.

    Raises:
        DynqError: If an option is wrong or the checkpoint does not fit.
    """

    def __init__(self, opt: dict) -> None:
        self.check_options(opt)
        if opt['num_gpu'] > 1 and not opt['dist']:
            raise DynqError('num_gpu: several GPUs need one process each; start with torchrun and --launcher pytorch.')
        if opt['num_gpu'] == 0:
            keep_freed_memory()
            if reason := why_not_native():
                get_root_logger().info(f'Quantizers run without their compiled kernel, a few times slower: {reason}.')
        self._saved: tuple[int, int] | None = None  # epoch and iteration of the newest training state
        self._worked = 0.0
        self.figures = TrainingFigures('Lower the learning rates (train.optim_g.lr, train.lr).')
        super().__init__(opt)
        if hasattr(self, 'net_g_ema'):
            self.net_g_ema.to(memory_format=torch.channels_last)
        get_root_logger().info(f'Model size: {model_size(self.network) / 1000:.1f}K parameters of 32 bits.')

    @classmethod
    def check_options(cls, opt: dict) -> None:
        """Refuse an option file that cannot work, before anything is built or written.

        A ``network_g`` without a backbone is completed from its checkpoint first (see ``complete_network``).

        Raises:
            DynqError: Names the key and the way out.
        """
        check_sections(opt)
        complete_network(opt)
        check_options(opt)
        TilingOptions.from_val(opt.get('val') or {})
        if opt['is_train']:
            cls.check_train(opt.get('train') or {})

    @classmethod
    def check_train(cls, train: dict) -> None:
        """Refuse a ``train`` section that cannot work; here it is BasicSR's.

        Raises:
            DynqError: Names the key and the way out.
        """
        check_train(train)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move the network and wrap it where needed; its layout comes first, since the wrapper lays out gradients."""
        return super().model_to_device(net.to(memory_format=torch.channels_last))

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = 'params'
    ) -> None:
        """Load float or quantized weights, BasicSR's or foreign; always strictly (see ``load_weights``)."""
        load_weights(self.get_bare_model(net), load_path, param_key)

    @master_only
    def save_network(
        self, net: nn.Module | list, net_label: str, current_iter: int, param_key: str | list[str] = 'params'
    ) -> None:
        """Save as BasicSR does, atomically, with the options that describe the network."""
        label = 'latest' if current_iter == -1 else current_iter
        nets, keys = (net, param_key) if isinstance(net, list) else ([net], [param_key])
        content: dict[str, object] = {
            key: {name: value.cpu() for name, value in self.get_bare_model(one).state_dict().items()}
            for one, key in zip(nets, keys, strict=True)
        }
        for key, state in content.items():
            broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
            if broken:
                raise DynqError(
                    f'{key} holds NaN or infinity in {broken[0]}; not saved, the last good checkpoint stays.'
                )
        if isinstance(self.network, QuantizedSR):
            content['description'] = self.network.description
        save_atomically(content, Path(self.opt['path']['models']) / f'{net_label}_{label}.pth')

    @torch.no_grad()
    def model_ema(self, decay: float = 0.999) -> None:
        """Average the parameters, as BasicSR does, and copy the buffers: statistics, thresholds, flags."""
        super().model_ema(decay)
        buffers = dict(self.network.named_buffers())
        for name, buffer in self.net_g_ema.named_buffers():
            buffer.copy_(buffers[name])

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration of BasicSR's training, without waiting for the device.

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

    @property
    def log_dict(self) -> dict[str, float]:
        """The newest losses and figures; fetched from the device now, by all processes together.

        Raises:
            DynqError: If a loss was not finite.
        """
        return self._read_figures()

    def _read_figures(self) -> dict[str, float]:
        """Fetch the figures; what that waits for is work of the iterations before."""
        start = time.perf_counter()
        try:
            return self.figures.read()
        finally:
            self._add_seconds(time.perf_counter() - start)

    def _add_seconds(self, seconds: float) -> None:
        self._worked += seconds

    @property
    def worked(self) -> float:
        """Seconds of training until here, an interrupted run's included, loading of data and validations not."""
        return self._worked

    def training_memory(self) -> dict[str, object]:
        """What a training state holds beside BasicSR's own: plain values, for ``resume_training``."""
        return {'worked': self._worked}

    def save(self, epoch: int, current_iter: int) -> None:
        """Save network and state, if the losses until here were finite."""
        if self.is_train:
            self._read_figures()
        super().save(epoch, current_iter)

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save what resuming needs, atomically; every rank must call it, rank 0 writes."""
        if current_iter == -1:
            return
        self._saved = epoch, current_iter
        loop = gather(position())
        if get_dist_info()[0] != 0:
            return
        state = {
            'epoch': epoch,
            'iter': current_iter,
            'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
            'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
            'best_metric_results': getattr(self, 'best_metric_results', {}),
            'loop': None if None in loop else loop,
            **self.training_memory(),
        }
        save_atomically(state, Path(self.opt['path']['training_states']) / f'{current_iter}.state')

    def resume_training(self, resume_state: dict) -> None:
        """Go on with the optimizers, schedulers and best metrics of an interrupted run."""
        super().resume_training(resume_state)
        self._worked = resume_state.get('worked', 0.0)
        metrics = ((self.opt.get('val') or {}).get('metrics') or {}).keys()
        best = resume_state.get('best_metric_results', {})
        self.best_metric_results = {name: record for name, record in best.items() if record.keys() == metrics}

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img: bool) -> None:
        """As ``PatchwiseModel``'s; a training notes the figures in ``curve.csv``.

        A state that was saved in this iteration is saved anew, with the best metrics.
        """
        if self.is_train:
            self._read_figures()
        super().dist_validation(dataloader, current_iter, tb_logger, save_img)
        if self.is_train and get_dist_info()[0] == 0:
            file = Path(self.opt['path']['experiments_root']) / 'curve.csv'
            iteration = min(current_iter, self.opt['train']['total_iter'])  # BasicSR counts one more after its loop
            add_to_curve(file, iteration, self.worked, dataloader.dataset.opt['name'], self.metric_results)
        if self._saved and self._saved[1] == current_iter:  # BasicSR saves before it validates
            self.save_training_state(*self._saved)
