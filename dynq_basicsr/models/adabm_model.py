"""AdaBM as a BasicSR model: calibration and fine-tuning are iterations of BasicSR's training loop."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from basicsr.utils import get_root_logger
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.data.lr_calibration_dataset import DEFAULT_PATCH_SIZE
from dynq_basicsr.errors import DynqError, check_number
from dynq_basicsr.models.adabm_options import JOINT, AdaBMOptions
from dynq_basicsr.models.calibration import Calibration
from dynq_basicsr.models.feature_matching import FEATURE_LOSSES, FeatureTaps
from dynq_basicsr.models.precision import products_in
from dynq_basicsr.models.progress import TrainingBar
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.models.teacher import Teacher
from dynq_basicsr.quantization.options import FLOAT_BITS
from dynq_basicsr.quantization.selection import feature_taps

PEAK = 255  # losses are on the 0..255 scale, whatever range the backbone works in


class AdaBMModel(QuantizedModel):
    """AdaBM (Hong and Lee, CVPR 2024): post-training quantization with bits that follow image and layer.

    The first ``calibration_iter`` iterations watch the float network; the rest fine-tune, one stage after the other:
    weight ranges, activation ranges, bit maps. The network's own weights stay frozen and no ground truth is read. The
    teacher is the same network with its quantizers switched off.

    Args:
        opt: BasicSR's options; ``train`` as in ``AdaBMOptions``.

    Raises:
        DynqError: If an option is wrong or a value stops being finite.
    """

    @classmethod
    def check_train(cls, train: dict) -> None:
        """Refuse a ``train`` section that cannot work; here it is AdaBM's."""
        AdaBMOptions.from_dict(train)

    @classmethod
    def check_options(cls, opt: dict) -> None:
        """Refuse an option file that cannot work; patch sizes and data set must agree."""
        super().check_options(opt)
        if not opt['is_train']:
            return
        recipe = AdaBMOptions.from_dict(opt.get('train') or {})
        data = (opt.get('datasets') or {}).get('train') or {}
        given = data.get('patch_size', DEFAULT_PATCH_SIZE)
        check_number('datasets.train.patch_size', given, 1, whole=True)
        if recipe.patch_size is not None and recipe.patch_size > given:
            raise DynqError(
                f'train.patch_size: {recipe.patch_size} is more than datasets.train.patch_size, {given}; lower it.'
            )
        if recipe.cache_teacher and not data.get('fixed_crops'):
            raise DynqError(
                'train.cache_teacher: an image needs one crop for that; set datasets.train.fixed_crops: true.'
            )

    def __init__(self, opt: dict) -> None:
        self.recipe = AdaBMOptions.from_dict(opt['train']) if opt['is_train'] else None
        super().__init__(opt)

    def init_training_settings(self) -> None:
        """Freeze the network; prepare taps and one optimizer a stage."""
        net = self.network
        if not isinstance(net, QuantizedSR) or not net.plan.adaptive:
            raise DynqError(
                'AdaBMModel: network_g must be of type QuantizedSR, with weights or activations below 32 bits.'
            )
        has_weights = self.opt['network_g']['backbone']['type'] == 'Spandrel'
        if not has_weights and not self.opt['path'].get('pretrain_network_g'):
            raise DynqError('AdaBMModel: give the trained float weights in path.pretrain_network_g.')
        net.eval().requires_grad_(False)
        self.taps = FeatureTaps(net.backbone, feature_taps(net.plan.features))
        self.teacher = Teacher(net, self.taps, self.recipe.cache_teacher)
        self.calibration: Calibration | None = None
        self.bar: TrainingBar | None = None
        self.mean_bits: float | None = None
        self.seconds: dict[str, float] = defaultdict(float)
        self.log_dict: dict[str, float] = {}
        self.setup_optimizers()

    def setup_optimizers(self) -> None:
        """One Adam a stage, one learning rate a kind of parameter; stages without parameters are left out."""
        parts = self._learned()
        parts[JOINT] = [group for groups in parts.values() for group in groups]
        self.stages: dict[str, torch.optim.Optimizer] = {}
        for stage in dict.fromkeys(self.recipe.stages):
            groups = [{'params': params, 'lr': rate, 'initial_lr': rate} for rate, params in parts[stage] if params]
            if groups:
                self.stages[stage] = torch.optim.Adam(groups)
        self.recipe = self.recipe.with_stages(tuple(stage for stage in self.recipe.stages if stage in self.stages))
        if not self.stages and self.recipe.total_iter > self.recipe.calibration_iter:
            raise DynqError(
                'train.stages: none of them has anything to learn with this quantization and policy; add a stage, or '
                'set total_iter to calibration_iter.'
            )
        self.optimizers = list(self.stages.values())

    def _learned(self) -> dict[str, list[tuple[float, list[nn.Parameter]]]]:
        """What there is to learn: kind of stage -> (learning rate, parameters)."""
        net, rates = self.network, self.recipe.lr
        layers, options = net.quant_layers(), net.quantization
        parts: dict[str, list[tuple[float, list[nn.Parameter]]]] = {'weight': [], 'activation': [], 'mapping': []}
        if options.weight.bits != FLOAT_BITS:
            offsets = [layer.weight_range.offset for layer in layers if layer.weight_range.offset is not None]
            if offsets and not {'weight', JOINT} & set(self.recipe.stages):
                raise DynqError(
                    "network_g.quantization.weight.rounding: 'learned' needs a stage weight or joint in train.stages."
                )
            bounds = [layer.weight_range.log_upper for layer in layers]
            parts['weight'] = [(rates.weight, bounds), (rates.rounding, offsets)]
        if options.activation.bits != FLOAT_BITS:
            bounds = [bound for layer in layers for bound in layer.activation_range.parameters()]
            parts['activation'] = [(rates.activation, bounds)]
            parts['mapping'] = [(getattr(rates, kind), params) for kind, params in net.policy.learned().items()]
        return parts

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the rates of the current stage: a function of the iteration, so resuming needs no scheduler."""
        optimizer = self.stages.get(self.recipe.stage(current_iter))
        if optimizer:
            for group in optimizer.param_groups:
                group['lr'] = group['initial_lr'] * self.recipe.decay(current_iter)
        self._current = optimizer

    def get_current_learning_rate(self) -> list[float]:
        """Rates of the current stage; 0 while calibrating."""
        return [group['lr'] for group in self._current.param_groups] if self._current else [0.0]

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration of calibration or fine-tuning on the batch at hand."""
        if self.bar is None:
            self.bar = TrainingBar(self.recipe.total_iter, current_iter - 1)
        stage = self.recipe.stage(current_iter)
        start = time.perf_counter()
        try:
            if stage == 'calibration':
                self._calibrate(current_iter)
            else:
                self._fine_tune(stage, current_iter)
        except BaseException:
            self.bar.close()  # the sentence about it deserves a line of its own
            raise
        self.seconds[stage] += time.perf_counter() - start
        self.bar.update(stage, self.log_dict)

    def feed_data(self, data: dict) -> None:
        """Take a batch and, while training, the names of its images."""
        super().feed_data(data)
        self.names = data.get('lq_path', ())

    def _calibrate(self, current_iter: int) -> None:
        if self.calibration is None:
            self.network.calibrated.fill_(False)
            recipe = self.recipe
            self.calibration = Calibration(self.network, recipe.bit_aware_clipping, recipe.clipping_norm, recipe.ranges)
        self.calibration.observe(self.lq)
        if current_iter == self.recipe.calibration_iter:
            self.calibration.finish()
            self.calibration = None

    def _fine_tune(self, stage: str, current_iter: int) -> None:
        optimizer = self.stages[stage]
        self.network.requires_grad_(False)
        for group in optimizer.param_groups:
            for parameter in group['params']:
                parameter.requires_grad_(True)
        size = self.recipe.patch_size
        self.lq = self.lq[..., :size, :size].contiguous(memory_format=torch.channels_last)
        losses, bits = self._losses(stage)
        total = sum(losses.values())
        if not torch.isfinite(total):
            raise DynqError(
                f'The loss became {total.item()} in iteration {current_iter} ({stage}); training stops and the last '
                'saved checkpoint stays. Lower the learning rates in train.lr.'
            )
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        self.log_dict = self.reduce_loss_dict({**losses, 'bits': bits})

    def _losses(self, stage: str) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted loss terms and the mean bits of the batch."""
        net, weights = self.net_g, self.recipe.loss
        with products_in(self.recipe.precision, self.device):
            target, theirs = self.teacher(net, self.lq, self.names)
            with self.network.tracing() as trace, self.taps.reading() as ours:
                output = net(self.lq)
        bits = trace.mean().to(self.device)
        losses = {'l_pix': weights.pixel * PEAK * nn.functional.l1_loss(output, target)}
        losses['l_skt'] = weights.feature * FEATURE_LOSSES[weights.feature_form](ours, theirs)
        base = self.network.quantization.activation.bits
        if stage in ('mapping', JOINT) and base != FLOAT_BITS and self.network.policy.learned():
            goal = base if weights.target_bits is None else weights.target_bits
            losses['l_bit'] = weights.bit * (self._running_bits(bits) - goal).clamp(min=0)
        return losses, bits.detach()

    def _running_bits(self, bits: Tensor) -> Tensor:
        """Mean bits over batches, with the gradient of this batch's."""
        before = bits.item() if self.mean_bits is None else self.mean_bits
        self.mean_bits = before + (1 - self.recipe.loss.bit_momentum) * (bits.item() - before)
        return self.mean_bits + (bits - bits.detach())

    @property
    def worked(self) -> float:
        """Seconds of calibration and fine-tuning until here, an interrupted run's included, validations not."""
        return sum(self.seconds.values())

    def training_memory(self) -> dict[str, object]:
        """Seconds of each stage and the running mean of bits."""
        return {'seconds': dict(self.seconds), 'mean_bits': self.mean_bits}

    def resume_training(self, resume_state: dict) -> None:
        """Go on with optimizers and memory of an interrupted run."""
        super().resume_training(resume_state)
        self.seconds.update(resume_state.get('seconds', {}))
        self.mean_bits = resume_state.get('mean_bits')

    def validation(self, dataloader, current_iter, tb_logger, save_img: bool = False) -> None:
        """Evaluate a data set, once the network is calibrated."""
        if self.is_train and not self.network.calibrated:
            get_root_logger().info('Calibration is not finished yet, so there is nothing to validate.')
            return
        super().validation(dataloader, current_iter, tb_logger, save_img)

    def save(self, epoch: int, current_iter: int) -> None:
        """Save the calibrated network and, at the end, the seconds of each stage."""
        if not self.network.calibrated:
            if current_iter == -1:
                raise DynqError(
                    'Training ended before calibration did, so nothing was made; give datasets.train at least as many '
                    'images as batch_size_per_gpu.'
                )
            get_root_logger().info('Calibration is not finished yet, so there is nothing to save.')
            return
        super().save(epoch, current_iter)
        if current_iter == -1 and self.seconds and self.opt['rank'] == 0:
            report = {stage: round(seconds, 3) for stage, seconds in self.seconds.items()}
            get_root_logger().info(f'Seconds a stage: {report}')
            (Path(self.opt['path']['experiments_root']) / 'adabm_timing.json').write_text(json.dumps(report) + '\n')
