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
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.numerics.matmul import matmul_dtype
from dynq_basicsr.policies.base import BitBudget
from dynq_basicsr.quantization.options import FLOAT_BITS
from dynq_basicsr.quantization.run import Details, Mode
from dynq_basicsr.quantization.selection import feature_taps
from dynq_basicsr.training.calibration import Calibration
from dynq_basicsr.training.compiling import CompiledNetwork, wants_compiler
from dynq_basicsr.training.feature_matching import FEATURE_LOSSES, tapped_modules
from dynq_basicsr.training.optimizing import fused
from dynq_basicsr.training.progress import TrainingBar
from dynq_basicsr.training.teacher import Teacher

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
        net.tap(tapped_modules(net.backbone, feature_taps(net.plan.features)))
        recipe = self.recipe
        iterations = recipe.total_iter - recipe.calibration_iter  # each stage is a graph of its own
        compiles = wants_compiler(recipe.compile, self.device, iterations // len(set(recipe.stages)))
        self.compiled = CompiledNetwork(self.net_g, self.device) if compiles else None
        self.training_net = self.compiled or self.net_g
        self.matmul_dtype = matmul_dtype(recipe.precision, self.device)
        self.teacher = Teacher(lambda images: self._answer(images, Mode.FLOAT), recipe.cache_teacher)
        self.calibration: Calibration | None = None
        self.bar: TrainingBar | None = None
        base, target = net.quantization.activation.bits, recipe.loss.target_bits
        mean = torch.full((), float('nan'), device=self.device)
        self.budget = BitBudget(base if target is None else target, recipe.loss.bit_momentum, mean)
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage = ''
        self.setup_optimizers()

    def _answer(self, images: Tensor, mode: Mode) -> Details:
        return self.training_net(images, mode=mode, matmul_dtype=self.matmul_dtype, details=True)

    def setup_optimizers(self) -> None:
        """One Adam a stage, one learning rate a kind of parameter; stages without parameters are left out."""
        parts = self._learned()
        parts[JOINT] = [group for groups in parts.values() for group in groups]
        self.stages: dict[str, torch.optim.Optimizer] = {}
        for stage in dict.fromkeys(self.recipe.stages):
            groups = [{'params': params, 'lr': rate, 'initial_lr': rate} for rate, params in parts[stage] if params]
            if groups:
                self.stages[stage] = torch.optim.Adam(groups, fused=fused(self.device))
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
            groups = net.policy.parameter_groups()
            parts['mapping'] = [(rates.of_policy(kind, group.lr), group.parameters) for kind, group in groups.items()]
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
            self.bar = TrainingBar(self.recipe.total_iter, current_iter - 1, self.opt['logger']['print_freq'])
        stage = self.recipe.stage(current_iter)
        start = time.perf_counter()
        try:
            if stage == 'calibration':
                self._calibrate(current_iter)
            else:
                self._fine_tune(stage, current_iter)
        except BaseException:
            self.network.holder.clear()  # which a backward pass that fails leaves full
            self.bar.close()  # the sentence about it deserves a line of its own
            raise
        self.seconds[stage] += time.perf_counter() - start
        self.bar.update(stage, self.figures.glance)

    def feed_data(self, data: dict) -> None:
        """Take a batch and, while training, the names of its images."""
        super().feed_data(data)
        self.names = data.get('lq_path', ())

    def _calibrate(self, current_iter: int) -> None:
        if self.calibration is None:
            self.network.calibrated = False
            self.calibration = Calibration(self.network, self.recipe.clipping)
        self.calibration.observe(self.lq)
        if current_iter == self.recipe.calibration_iter:
            self.calibration.finish()
            self.calibration = None

    def _fine_tune(self, stage: str, current_iter: int) -> None:
        optimizer = self.stages[stage]
        if stage != self._stage:
            self._stage = stage
            self.network.requires_grad_(False)
            for group in optimizer.param_groups:
                for parameter in group['params']:
                    parameter.requires_grad_(True)
        size = self.recipe.patch_size
        self.lq = self.lq[..., :size, :size].contiguous(memory_format=torch.channels_last)
        if self.compiled:
            self.compiled.begin_step()
        losses, bits = self._losses(stage)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        self.figures.note(current_iter, losses, {'bits': bits})

    def _losses(self, stage: str) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted loss terms and the mean bits of the batch."""
        policy, weights = self.network.policy, self.recipe.loss
        target, theirs = self.teacher(self.lq, self.names)
        output, bits, ours = self._answer(self.lq, Mode.TRAINING)
        losses = {'l_pix': weights.pixel * PEAK * nn.functional.l1_loss(output, target)}
        losses['l_skt'] = weights.feature * FEATURE_LOSSES[weights.feature_form](ours, theirs)
        if stage in ('mapping', JOINT) and self.network.quantization.activation.bits != FLOAT_BITS:
            losses |= {name: weights.bit * loss for name, loss in policy.losses(bits, self.budget).items()}
        return losses, bits.mean()

    def _add_seconds(self, seconds: float) -> None:
        self.seconds[self._stage or 'calibration'] += seconds

    @property
    def worked(self) -> float:
        """Seconds of calibration and fine-tuning until here, an interrupted run's included, validations not."""
        return sum(self.seconds.values())

    def training_memory(self) -> dict[str, object]:
        """Seconds of each stage and the running mean of bits."""
        return {'seconds': dict(self.seconds), 'mean_bits': self.budget.mean.item()}

    def resume_training(self, resume_state: dict) -> None:
        """Go on with optimizers and memory of an interrupted run."""
        super().resume_training(resume_state)
        self.seconds.update(resume_state.get('seconds', {}))
        self.budget.mean.fill_(resume_state.get('mean_bits', float('nan')))

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
