"""Granular-DQ as a BasicSR model: quantization-aware training with an L1 loss."""

from __future__ import annotations

from pathlib import Path

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import is_quantized, load_weights, read_checkpoint
from dynq_basicsr.config.run import GranularRunOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.numerics.matmul import matmul_dtype
from dynq_basicsr.quantization.clipping import Clipping
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.training.calibration import Calibration
from dynq_basicsr.training.compiling import CompiledNetwork, wants_compiler
from dynq_basicsr.training.distributed import broadcast_module, gather_shares
from dynq_basicsr.training.optimizing import FUSED, fused
from dynq_basicsr.training.progress import TrainingBar
from dynq_basicsr.training.survey import draw_patches, survey

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


class GranularDQModel(QuantizedModel):
    """Granular-DQ (Wang et al., AAAI 2025): weights, quantization steps and the controller learn from L1 alone.

    Before the first iteration, where the network is not calibrated yet, training patches give the first ranges and the
    distribution of entropies. It trains a ``QuantizedSR`` of any policy, so also the fixed bits that it is compared
    with, and from float weights or from scratch.

    Args:
        opt: BasicSR's options; ``train`` as BasicSR's ``SRModel`` has it, and ``GranularOptions``.

    Raises:
        DynqError: If an option is wrong or a value stops being finite.
    """

    options_type = GranularRunOptions

    @classmethod
    def check_options(cls, opt: dict) -> GranularRunOptions:
        """As ``QuantizedModel``'s; a teacher must be float."""
        options = super().check_options(opt)
        teacher = options.train.teacher if options.train else None
        if teacher is not None and is_quantized(read_checkpoint(teacher, None, 'train.teacher')[0]):
            raise DynqError(f'train.teacher: {teacher} is a quantized checkpoint; name the float weights.')
        return options

    def __init__(self, opt: dict) -> None:
        self.bar: TrainingBar | None = None
        super().__init__(opt)

    def init_training_settings(self) -> None:
        """Calibrate where that is to be done; then BasicSR's losses, optimizer, scheduler and EMA."""
        net, self.recipe = self.network, self.options.train
        self.teacher = self._build_teacher() if self.recipe.teacher else None
        self.matmul_dtype = matmul_dtype(self.recipe.precision, self.device)
        begins = not net.calibrated
        if begins:
            gather_shares(self._calibrate)
            broadcast_module(net)
            net.calibrated = True  # on the other ranks, too
        super().init_training_settings()
        if begins and hasattr(self, 'net_g_ema'):
            self.net_g_ema.load_state_dict(net.state_dict())
        self._set_mode()
        compiles = wants_compiler(self.recipe.compile, self.device, self.opt['train']['total_iter'])
        self.compiled = CompiledNetwork(self.net_g, self.device) if compiles else None
        self.training_net = self.compiled or self.net_g

    def _build_teacher(self) -> QuantizedSR:
        """The float network, which pads images as ours does; not trained, and no part of a checkpoint."""
        net = QuantizedSR(self.opt['network_g']['backbone'])
        load_weights(net, self.recipe.teacher, None, 'train.teacher')
        return net.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)

    @torch.no_grad()
    def training_target(self) -> Tensor:
        """The ground truth, or the teacher's output in its place."""
        if self.teacher is None:
            return self.gt
        return self.teacher(self.lq, mode=Mode.FLOAT, matmul_dtype=self.matmul_dtype).float()

    def training_forward(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The quantized network's output, and the mean bits of the batch."""
        output, bits, _ = self.training_net(self.lq, mode=Mode.TRAINING, matmul_dtype=self.matmul_dtype, details=True)
        return output, {'bits': bits.mean()} if len(bits) else {}

    def _calibrate(self) -> list:
        """Measure what the policy wants to know, and ranges, on rank 0: by themselves, ranks may draw other patches."""
        if get_dist_info()[0] != 0:
            return []
        net, dataset, seed = self.network, self.opt['datasets']['train'], self.opt.get('manual_seed') or 0
        if net.input_channels == 1:  # as ``feed_data`` gives them
            dataset = {**dataset, 'color': 'y'}
        cache = Path(self.opt['path']['experiments_root']).parent / '.measures'
        measures = survey(dataset, net.policy.measure, self.recipe.entropy_patches, cache, seed)
        self._set_mode(training=False)
        calibration = Calibration(net, Clipping(bit_aware=False), measures)
        for patches in draw_patches(dataset, self.recipe.calibration_patches, seed):
            calibration.observe(patches.to(self.device))
        calibration.finish()
        return []

    def _set_mode(self, training: bool = True) -> None:
        """Batch norm is as in training also in calibration: from scratch, its running statistics say nothing yet."""
        self.network.train(training)
        for module in self.network.modules():
            if isinstance(module, _BATCH_NORMS):
                module.train(not self.recipe.freeze_batch_norm)

    def setup_optimizers(self) -> None:
        """One optimizer, a group for each kind of parameter: weights, ranges, controller."""
        options = dict(self.opt['train']['optim_g'])
        kind, rate = options.pop('type'), options['lr']
        net = self.network
        ranges = [
            parameter
            for layer in net.quant_layers()
            for module in (layer.activation_range, layer.weight_range)
            for parameter in module.parameters()
        ]
        gate = list(net.policy.parameters())
        others = {id(parameter) for parameter in (*ranges, *gate)}
        weights = [parameter for parameter in net.parameters() if id(parameter) not in others]
        lr_gate = rate if self.recipe.lr_gate is None else self.recipe.lr_gate
        groups = [
            {'params': weights},
            {'params': ranges, 'lr': self.recipe.lr_range, 'weight_decay': 0},
            {'params': gate, 'lr': lr_gate},
        ]
        if kind in FUSED:
            options.setdefault('fused', fused(self.device))
        self.optimizer_g = self.get_optimizer(kind, [group for group in groups if group['params']], **options)
        self.optimizer_g.register_step_post_hook(lambda *_: net.policy.settle())  # before the moving averages
        self.optimizers.append(self.optimizer_g)

    def iterate(self, current_iter: int) -> None:
        """One iteration of BasicSR's training, the network quantized."""
        if self.bar is None:
            self.bar = TrainingBar(self.opt['train']['total_iter'], current_iter - 1, self.opt['logger']['print_freq'])
        if current_iter <= self.recipe.adapt_iter:
            self.network.policy.adapt(self.lq)
        if self.compiled:
            self.compiled.begin_step()
        super().iterate(current_iter)
        self.bar.update('training', self._glance)

    def abandon(self) -> None:
        """Leave the terminal as it was, too."""
        super().abandon()
        if self.bar:
            self.bar.close()

    def save(self, epoch: int, current_iter: int) -> None:
        """Save network and state; at the end, say what became of the policy."""
        super().save(epoch, current_iter)
        if current_iter == -1 and (summary := self.network.policy.summary()):
            get_root_logger().info(summary)
