"""Granular-DQ as a BasicSR model: quantization-aware training with an L1 loss."""

from __future__ import annotations

from pathlib import Path

import torch
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import is_quantized, load_weights, read_checkpoint
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.calibration import Calibration
from dynq_basicsr.models.distributed import broadcast_module, gather_shares
from dynq_basicsr.models.entropy_survey import draw_patches, survey_entropies
from dynq_basicsr.models.granular_options import GranularOptions
from dynq_basicsr.models.precision import products_in
from dynq_basicsr.models.progress import TrainingBar
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.models.train_checks import TRAIN_KEYS, check_train
from dynq_basicsr.policies.granularity_entropy import GranularityEntropyPolicy
from dynq_basicsr.quantization.compiled import CannotCompile, Kernel, compile_rounding, compiled_rounding

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

    @classmethod
    def check_train(cls, train: dict) -> None:
        """Refuse a ``train`` section that cannot work: BasicSR's, and ``GranularOptions``."""
        check_train(train, (*TRAIN_KEYS, *GranularOptions.names()))
        teacher = GranularOptions.from_dict(train).teacher
        if teacher is not None and is_quantized(read_checkpoint(teacher, None, 'train.teacher')[0]):
            raise DynqError(f'train.teacher: {teacher} is a quantized checkpoint; name the float weights.')

    def __init__(self, opt: dict) -> None:
        self.recipe = GranularOptions.from_dict(opt['train']) if opt['is_train'] else None
        self.bar: TrainingBar | None = None
        super().__init__(opt)

    def init_training_settings(self) -> None:
        """Calibrate where that is to be done; then BasicSR's losses, optimizer, scheduler and EMA."""
        if not isinstance(self.network, QuantizedSR):
            raise DynqError('GranularDQModel: network_g must be of type QuantizedSR.')
        self.teacher = self._build_teacher() if self.recipe.teacher else None
        self.kernels = self._compile() if self.recipe.compile else {}
        begins = not self.network.calibrated
        if begins:
            gather_shares(self._calibrate)
            broadcast_module(self.network)
        super().init_training_settings()
        if begins and hasattr(self, 'net_g_ema'):
            self.net_g_ema.load_state_dict(self.network.state_dict())
        self._set_mode()

    def _build_teacher(self) -> QuantizedSR:
        """The float network, which pads images as ours does; not trained, and no part of a checkpoint."""
        net = QuantizedSR(self.opt['network_g']['backbone'])
        load_weights(net, self.recipe.teacher, None, 'train.teacher')
        return net.to(self.device, memory_format=torch.channels_last).eval().requires_grad_(False)

    def _compile(self) -> dict[str, Kernel]:
        """Kernels for the gradients of this network's rounding, or a line that says why there are none."""
        logger, gradient = get_root_logger(), self.network.quantization.rounding_gradient
        if self.device.type != 'cpu':
            logger.info('train.compile: only for training on the CPU, so it does nothing here.')
            return {}
        logger.info('Compiling the gradients of rounding (about half a minute)')
        try:
            return {gradient: compile_rounding(gradient)}
        except CannotCompile as error:
            logger.info(f'train.compile: cannot be done here, so training goes on without, only slower ({error}).')
            return {}

    @torch.no_grad()
    def prepare_target(self) -> None:
        """Let the teacher's output take the place of the ground truth."""
        if self.teacher is not None:
            self.gt = self.teacher(self.lq).float()

    @property
    def _entropy_policy(self) -> GranularityEntropyPolicy | None:
        """The policy, where it hands out bits by entropy."""
        policy = self.network.policy
        return policy if isinstance(policy, GranularityEntropyPolicy) and policy.entropy_bits else None

    def _calibrate(self) -> list:
        """Measure entropies and ranges, on rank 0: by themselves, ranks may draw other patches."""
        if get_dist_info()[0] != 0:
            return []
        net, dataset, seed = self.network, self.opt['datasets']['train'], self.opt.get('manual_seed') or 0
        if policy := self._entropy_policy:
            cache = Path(self.opt['path']['experiments_root']).parent / 'entropies'
            policy.set_distribution(survey_entropies(dataset, self.recipe.entropy_patches, cache, seed))
        self._set_mode(training=False)
        calibration = Calibration(net, bit_aware_clipping=False)
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
        self.optimizer_g = self.get_optimizer(kind, [group for group in groups if group['params']], **options)
        self.optimizers.append(self.optimizer_g)

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration of BasicSR's training, the network quantized."""
        if self.bar is None:
            self.bar = TrainingBar(self.opt['train']['total_iter'], current_iter - 1)
        if policy := self._entropy_policy:
            policy.adapting = current_iter <= self.recipe.adapt_iter
        try:
            with (
                products_in(self.recipe.precision, self.device),
                compiled_rounding(self.kernels),
                self.network.tracing() as trace,
            ):
                super().optimize_parameters(current_iter)
        except BaseException:
            self.bar.close()
            raise
        if trace.bits:
            self.log_dict['bits'] = trace.mean().item()
        self.bar.update('training', self.log_dict)

    def save(self, epoch: int, current_iter: int) -> None:
        """Save network and state; at the end, say what became of the thresholds."""
        super().save(epoch, current_iter)
        policy = self._entropy_policy
        if policy and current_iter == -1:
            pairs = zip(policy.quantiles.tolist(), policy.thresholds().tolist(), strict=True)
            text = ', '.join(f'{value:.3f} nats (quantile {quantile:.3f})' for quantile, value in pairs)
            get_root_logger().info(f'Entropy thresholds: {text}.')
