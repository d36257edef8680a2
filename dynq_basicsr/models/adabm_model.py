"""AdaBM as a BasicSR model: calibration and fine-tuning are iterations of BasicSR's training loop."""

from __future__ import annotations

import json
from pathlib import Path

from basicsr.utils import get_root_logger

from dynq_basicsr.atomic import write_whole
from dynq_basicsr.config.adabm import AdaBMOptions
from dynq_basicsr.config.run import AdaBMRunOptions
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.training.compiling import CompiledNetwork
from dynq_basicsr.training.post_training import PostTraining
from dynq_basicsr.training.progress import TrainingBar


class AdaBMModel(QuantizedModel):
    """AdaBM (Hong and Lee, CVPR 2024): post-training quantization with bits that follow image and layer.

    What an iteration does is ``PostTraining``'s.

    Args:
        opt: BasicSR's options; ``train`` as in ``AdaBMOptions``.

    Raises:
        DynqError: If an option is wrong or a value stops being finite.
    """

    options_type = AdaBMRunOptions

    def init_training_settings(self) -> None:
        """Freeze the network; prepare taps and one optimizer a stage."""
        self.training = PostTraining(self.network, self.options.train, self.figures, self.net_g)
        self.optimizers = list(self.training.stages.values())
        self.bar: TrainingBar | None = None
        self._rates = [0.0]

    @property
    def recipe(self) -> AdaBMOptions:
        """The ``train`` section, with the stages that have something to learn."""
        return self.training.recipe

    @property
    def seconds(self) -> dict[str, float]:
        """Of each stage."""
        return self.training.seconds

    @property
    def compiled(self) -> CompiledNetwork | None:
        """What runs in the network's place while fine-tuning; None: nothing does."""
        return self.training.compiled

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the rates of the current stage: a function of the iteration, so resuming needs no scheduler."""
        self._rates = self.training.set_rates(current_iter)

    def get_current_learning_rate(self) -> list[float]:
        """Rates of the current stage; 0 while calibrating."""
        return self._rates

    def iterate(self, current_iter: int) -> None:
        """One iteration of calibration or fine-tuning on the batch at hand."""
        if self.bar is None:
            self.bar = TrainingBar(self.recipe.total_iter, current_iter - 1, self.opt['logger']['print_freq'])
        self.training.step(current_iter, self.lq, self.names)
        self.bar.update(self.recipe.stage(current_iter), self._glance)

    def abandon(self) -> None:
        """Leave the terminal as it was, too: the sentence about it deserves a line of its own."""
        super().abandon()
        if self.bar:
            self.bar.close()

    def feed_data(self, data: dict) -> None:
        """Take a batch and, while training, the names of its images."""
        super().feed_data(data)
        self.names = data.get('lq_path', ())

    def _add_seconds(self, seconds: float) -> None:
        self.seconds[self.training.stage] += seconds

    @property
    def worked(self) -> float:
        """Seconds of calibration and fine-tuning until here, an interrupted run's included, validations not."""
        return sum(self.seconds.values())

    def training_memory(self) -> dict[str, object]:
        """Seconds of each stage and the running mean of bits."""
        return {'seconds': dict(self.seconds), 'mean_bits': self.training.budget.mean.item()}

    def recall_memory(self, state: dict) -> None:
        """Seconds of each stage and the running mean of bits."""
        self.seconds.update(state.get('seconds', {}))
        self.training.budget.mean.fill_(state.get('mean_bits', float('nan')))

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
            write_whole(Path(self.opt['path']['experiments_root']) / 'adabm_timing.json', json.dumps(report) + '\n')
