"""Calibration and fine-tuning after training, iteration by iteration, whoever brings the images."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.rehearsal import rehearse
from dynq_basicsr.config.adabm import CALIBRATION, JOINT, AdaBMOptions
from dynq_basicsr.config.quantization import FLOAT_BITS
from dynq_basicsr.errors import DynqError
from dynq_basicsr.numerics.matmul import matmul_dtype
from dynq_basicsr.policies.base import BitBudget
from dynq_basicsr.quantization.clipping import Clipping
from dynq_basicsr.quantization.run import Details, Mode
from dynq_basicsr.quantization.selection import feature_taps
from dynq_basicsr.training.calibration import Calibration
from dynq_basicsr.training.compiling import CompiledNetwork, wants_compiler
from dynq_basicsr.training.feature_matching import FEATURE_LOSSES, tapped_modules
from dynq_basicsr.training.figures import TrainingFigures
from dynq_basicsr.training.optimizing import fused
from dynq_basicsr.training.teacher import Teacher

PEAK = 255  # losses are on the 0..255 scale, whatever range the backbone works in


class PostTraining:
    """AdaBM's way (Hong and Lee, CVPR 2024, Algorithm 1), which the static methods share.

    The first ``calibration_iter`` iterations watch the float network; the rest fine-tune, stage by stage: weight
    ranges, activation ranges, bit maps. The network's own weights stay frozen and no ground truth is read. The teacher
    is the same network with its quantizers switched off.

    Args:
        net: The network, with its float weights loaded, on the device where it shall run.
        recipe: What to do.
        figures: Told of the losses of each iteration, and when they count as diverged.
        wrapped: What runs in the network's place, as for parallel training; None: itself.

    Attributes:
        recipe: With the stages that have something to learn.
        stages: One optimizer a stage.
        budget: What the bit loss holds the bits against.
        seconds: Spent on each stage.

    Raises:
        DynqError: If the recipe has stages and none has anything to learn, or the network cannot be calibrated.
    """

    def __init__(
        self, net: QuantizedSR, recipe: AdaBMOptions, figures: TrainingFigures, wrapped: Callable | None = None
    ) -> None:
        if not net.plan.adaptive:
            raise DynqError('network_g.quantization: weights or activations must have fewer than 32 bits.')
        self.net, self.figures = net, figures
        device = next(net.parameters()).device
        net.eval().requires_grad_(False)
        rehearse(net, gradient=recipe.total_iter > recipe.calibration_iter)
        net.tap(tapped_modules(net.backbone, feature_taps(net.plan.features)))
        iterations = recipe.total_iter - recipe.calibration_iter  # each stage is a graph of its own
        compiles = wants_compiler(recipe.compile, device, iterations // len(set(recipe.stages)))
        self.compiled = CompiledNetwork(wrapped or net, device) if compiles else None
        self._run = self.compiled or wrapped or net
        self._matmul_dtype = matmul_dtype(recipe.precision, device)
        self._teacher = Teacher(lambda images: self._answer(images, Mode.FLOAT), recipe.cache_teacher)
        self._calibration: Calibration | None = None
        base, target = net.quantization.activation.bits, recipe.loss.target_bits
        mean = torch.full((), float('nan'), device=device)
        self.budget = BitBudget(base if target is None else target, recipe.loss.bit_momentum, mean)
        self.seconds: dict[str, float] = defaultdict(float)
        self._stage = ''
        self.stages = self._optimizers(recipe, device)
        self.recipe = recipe.with_stages(tuple(stage for stage in recipe.stages if stage in self.stages))
        if not self.stages and recipe.total_iter > recipe.calibration_iter:
            raise DynqError(
                'train.stages: none of them has anything to learn with this quantization and policy; add a stage, or '
                'set total_iter to calibration_iter.'
            )

    def _answer(self, images: Tensor, mode: Mode) -> Details:
        return self._run(images, mode=mode, matmul_dtype=self._matmul_dtype, details=True)

    def _optimizers(self, recipe: AdaBMOptions, device: torch.device) -> dict[str, torch.optim.Optimizer]:
        """One Adam a stage, one learning rate a kind of parameter; stages without parameters are left out."""
        parts = self._learned(recipe)
        parts[JOINT] = [group for groups in parts.values() for group in groups]
        stages: dict[str, torch.optim.Optimizer] = {}
        for stage in dict.fromkeys(recipe.stages):
            groups = [{'params': params, 'lr': rate, 'initial_lr': rate} for rate, params in parts[stage] if params]
            if groups:
                stages[stage] = torch.optim.Adam(groups, fused=fused(device))
        return stages

    def _learned(self, recipe: AdaBMOptions) -> dict[str, list[tuple[float, list[nn.Parameter]]]]:
        """What there is to learn: kind of stage -> (learning rate, parameters)."""
        net, rates = self.net, recipe.lr
        layers, options = net.quant_layers(), net.quantization
        parts: dict[str, list[tuple[float, list[nn.Parameter]]]] = {'weight': [], 'activation': [], 'mapping': []}
        if options.weight.bits != FLOAT_BITS:
            offsets = [layer.weight_range.offset for layer in layers if layer.weight_range.offset is not None]
            if offsets and not {'weight', JOINT} & set(recipe.stages):
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

    def set_rates(self, iteration: int) -> list[float]:
        """Set the rates of an iteration's stage: a function of the iteration, so resuming needs no scheduler.

        Returns:
            The rates; a 0 while calibrating.
        """
        optimizer = self.stages.get(self.recipe.stage(iteration))
        if optimizer is None:
            return [0.0]
        for group in optimizer.param_groups:
            group['lr'] = group['initial_lr'] * self.recipe.decay(iteration)
        return [group['lr'] for group in optimizer.param_groups]

    def step(self, iteration: int, images: Tensor, names: Sequence[str] = ()) -> None:
        """One iteration.

        Args:
            iteration: Its number, from 1; they come in order.
            images: (N, C, H, W) in [0, 1].
            names: Of the images, for a teacher that remembers.
        """
        stage, start = self.recipe.stage(iteration), time.perf_counter()
        if stage == CALIBRATION:
            self._calibrate(iteration, images)
        else:
            self._fine_tune(stage, iteration, images, names)
        self.seconds[stage] += time.perf_counter() - start

    def _calibrate(self, iteration: int, images: Tensor) -> None:
        if self._calibration is None:
            self.net.calibrated = False
            self._calibration = Calibration(self.net, Clipping.of(self.recipe))
        self._calibration.observe(images)
        if iteration == self.recipe.calibration_iter:
            self._calibration.finish()
            self._calibration = None

    def _fine_tune(self, stage: str, iteration: int, images: Tensor, names: Sequence[str]) -> None:
        optimizer = self.stages[stage]
        if stage != self._stage:
            self._stage = stage
            self.net.requires_grad_(False)
            for group in optimizer.param_groups:
                for parameter in group['params']:
                    parameter.requires_grad_(True)
        size = self.recipe.patch_size
        images = images[..., :size, :size].contiguous(memory_format=torch.channels_last)
        if self.compiled:
            self.compiled.begin_step()
        losses, bits = self._losses(stage, images, names)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        self.net.policy.settle()
        self.figures.note(iteration, losses, {'bits': bits})

    def _losses(self, stage: str, images: Tensor, names: Sequence[str]) -> tuple[dict[str, Tensor], Tensor]:
        """Weighted loss terms and the mean bits of the batch."""
        policy, weights = self.net.policy, self.recipe.loss
        target, theirs = self._teacher(images, names)
        output, bits, ours = self._answer(images, Mode.TRAINING)
        losses = {'l_pix': weights.pixel * PEAK * nn.functional.l1_loss(output, target)}
        self.figures.limit('l_pix', losses['l_pix'], weights.pixel * PEAK * target.abs().mean())
        losses['l_skt'] = weights.feature * FEATURE_LOSSES[weights.feature_form](ours, theirs)
        if stage in ('mapping', JOINT) and self.net.quantization.activation.bits != FLOAT_BITS:
            losses |= {name: weights.bit * loss for name, loss in policy.losses(bits, self.budget).items()}
        return losses, bits.mean()

    @property
    def stage(self) -> str:
        """Of the newest iteration."""
        return self._stage or CALIBRATION
