"""BasicSR's SRModel with a training that may end at any moment, and goes on as if it had not."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info, master_only
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.compat import interrupted_epoch
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.patchwise_model import PatchwiseModel
from dynq_basicsr.training.distributed import gather, together
from dynq_basicsr.training.figures import Diverged, TrainingFigures
from dynq_basicsr.training.interruption import INTERRUPTED, Interruption
from dynq_basicsr.training.records import add_to_curve
from dynq_basicsr.training.saving import save_atomically

TOO_LARGE = 1e15  # a parameter whose products soon leave float32


class ResumableModel(PatchwiseModel):
    """Saves what a training needs to go on, bit for bit on one CPU process (see ``interrupted_epoch``).

    Ctrl-C, SIGTERM and SIGHUP end a training after the iteration at hand, whose state is saved. One that diverges ends
    with a sentence; the last good checkpoint stays. A subclass trains in ``iterate``.

    Args:
        opt: BasicSR's options.
    """

    def __init__(self, opt: dict) -> None:
        self._saved: tuple[int, int] | None = None  # epoch and iteration of the newest training state
        self._validated: dict[str, int] = {}  # data set -> iteration of its newest validation
        self._finished = 0
        self._ended = False  # after the loop, when the last network is saved
        self._worked = 0.0
        self.figures = TrainingFigures()
        self.interruption = Interruption(patient=opt['dist'])
        super().__init__(opt)

    def iterate(self, current_iter: int) -> None:
        """One iteration of training; notes its losses in ``figures``.

        Args:
            current_iter: Its number, from 1.
        """
        raise NotImplementedError

    def optimize_parameters(self, current_iter: int) -> None:
        """One iteration, without waiting for the device; the last one, where somebody asked for the end.

        Raises:
            DynqError: If the training has diverged, or another process is gone.
            SystemExit: At the end that was asked for; the state is saved.
        """
        self.interruption.listen()
        try:
            with together():
                self.iterate(current_iter)
        except BaseException as error:
            self.abandon()
            if isinstance(error, Diverged):
                raise self._diverged(str(error)) from None
            if isinstance(error, Exception) and not isinstance(error, DynqError):
                self._explain(error, current_iter)
            raise
        self._finished = current_iter
        if self._is_to_end():
            self._end_early()

    def abandon(self) -> None:
        """Let go of what a training holds that fails."""
        self.interruption.stop_listening()
        if isinstance(self.network, QuantizedSR):
            self.network.holder.clear()  # which a backward pass that fails leaves full

    def _explain(self, error: Exception, current_iter: int) -> None:
        """Raise a sentence in place of what a diverged network throws: infinite weights give anything, also bits."""
        if get_dist_info()[1] == 1:
            self._read_figures()  # of the iteration before
        for name, parameter in self.network.named_parameters():
            if not (parameter.detach().abs() < TOO_LARGE).all():
                problem = f'The parameter {name} was beyond all bounds in iteration {current_iter}.'
                raise self._diverged(problem) from error

    def _diverged(self, what: str) -> DynqError:
        saved = self.interruption.saved
        stays = 'nothing was saved yet' if saved is None else f'net_g_{saved}.pth, the last checkpoint, stays'
        return DynqError(f'{what} Training stops; {stays}. Lower the learning rates (train.optim_g.lr, train.lr).')

    def _is_to_end(self) -> bool:
        """Whether somebody asked for it; several processes agree where they meet anyway, to print their figures."""
        if not self.opt['dist']:
            return self.interruption.asked
        return self._finished % self.opt['logger']['print_freq'] == 0 and any(gather(self.interruption.asked))

    def _end_early(self) -> None:
        """Save the iteration at hand, unless it is saved, say what is true, and end the process."""
        if self._finished != self.interruption.saved:
            self.save(interrupted_epoch.epoch(), self._finished)
        get_root_logger().info(f'Interrupted after iteration {self._finished}: {self.interruption.outcome()}.')
        self.interruption.stop_listening()
        raise SystemExit(INTERRUPTED)

    @property
    def log_dict(self) -> dict[str, float]:
        """The newest losses and figures; fetched from the device now, by all processes together.

        Raises:
            DynqError: If the training has diverged.
        """
        return self._read_figures()

    def _read_figures(self) -> dict[str, float]:
        """Fetch the figures; what that waits for is work of the iterations before."""
        start = time.perf_counter()
        try:
            return self.figures.read()
        except Diverged as error:
            raise self._diverged(str(error)) from None
        finally:
            self._add_seconds(time.perf_counter() - start)

    def _glance(self) -> dict[str, float]:
        """The same for one process by itself, as the one that has a progress bar: of several, what was read last."""
        return self._read_figures() if get_dist_info()[1] == 1 else self.figures.known

    def _add_seconds(self, seconds: float) -> None:
        self._worked += seconds

    @property
    def worked(self) -> float:
        """Seconds of training until here, an interrupted run's included, loading of data and validations not."""
        return self._worked

    def training_memory(self) -> dict[str, object]:
        """What a training state holds beside BasicSR's own: plain values, for ``resume_training``."""
        return {'worked': self._worked}

    def recall_memory(self, state: dict) -> None:
        """Take over what ``training_memory`` gave the state of an interrupted run."""
        self._worked = state.get('worked', 0.0)

    def save(self, epoch: int, current_iter: int) -> None:
        """Save network and state, unless the training has diverged or is about to: the last good ones stay."""
        if self.is_train:
            self._read_figures()
            if self.figures.dubious:
                if current_iter == -1:
                    raise self._diverged('The training ended with a loss far above its start.')
                get_root_logger().warning('The loss is far above its start, so nothing is saved.')
                return
        super().save(epoch, current_iter)
        if current_iter == -1:
            self._ended = True
            self.interruption.stop_listening()

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
                raise self._diverged(f'{key} holds NaN or infinity in {broken[0]} and is not saved.')
        if isinstance(self.network, QuantizedSR):
            content['description'] = self.network.description
        save_atomically(content, Path(self.opt['path']['models']) / f'{net_label}_{label}.pth')

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save what resuming needs, atomically; every rank must call it, rank 0 writes."""
        if current_iter == -1:
            return
        self._saved = epoch, current_iter
        loop = gather(interrupted_epoch.position())
        if get_dist_info()[0] == 0:
            state = {
                'epoch': epoch,
                'iter': current_iter,
                'optimizers': [optimizer.state_dict() for optimizer in self.optimizers],
                'schedulers': [scheduler.state_dict() for scheduler in self.schedulers],
                'best_metric_results': getattr(self, 'best_metric_results', {}),
                'validated': [name for name, iteration in self._validated.items() if iteration == current_iter],
                'loss_limits': self.figures.limits(),
                'loop': None if None in loop else loop,
                **self.training_memory(),
            }
            save_atomically(state, Path(self.opt['path']['training_states']) / f'{current_iter}.state')
        self.interruption.saved = current_iter

    def resume_training(self, resume_state: dict) -> None:
        """Go on with the optimizers, schedulers and best metrics of an interrupted run.

        A validation that was due when the state was saved, and did not come to its end, is made up for.
        """
        try:
            super().resume_training(resume_state)
        except (AssertionError, ValueError, KeyError) as error:
            raise DynqError(
                f'path.resume_state: {self.opt["path"].get("resume_state")} is of other optimizers or schedulers than '
                'this option file; resume with the options of the run that saved it.'
            ) from error
        self.recall_memory(resume_state)
        metrics = ((self.opt.get('val') or {}).get('metrics') or {}).keys()
        best = resume_state.get('best_metric_results', {})
        self.best_metric_results = {name: record for name, record in best.items() if record.keys() == metrics}
        self.figures.resume(resume_state.get('loss_limits', {}))
        iteration, done = resume_state['iter'], resume_state.get('validated', [])
        self._validated = dict.fromkeys(done, iteration)
        path = self.opt['path'].get('resume_state')
        if path and Path(path).resolve().parent == Path(self.opt['path']['training_states']).resolve():
            self._saved = resume_state['epoch'], iteration
            self.interruption.saved = iteration
        self._make_up_for_validations(iteration)

    def _make_up_for_validations(self, iteration: int) -> None:
        val = self.opt.get('val')
        if not val or iteration % val['val_freq']:
            return
        for phase, options in (self.opt.get('datasets') or {}).items():
            if phase.split('_')[0] == 'val' and self._validated.get(options['name']) != iteration:
                get_root_logger().info(f'The validation of iteration {iteration} on {options["name"]} is made up for.')
                loader = build_dataloader(build_dataset(options), options, self.opt['num_gpu'], self.opt['dist'])
                self.validation(loader, iteration, None, val['save_img'])

    def dist_validation(self, dataloader, current_iter, tb_logger, save_img: bool) -> None:
        """As ``PatchwiseModel``'s; a training notes the figures in ``curve.csv``.

        A state that was saved in this iteration is saved anew, with the best metrics. The validation that BasicSR has
        after its loop is left out where the last iteration had one.
        """
        if not self.is_train:
            super().dist_validation(dataloader, current_iter, tb_logger, save_img)
            return
        current_iter = min(current_iter, self.opt['train']['total_iter'])  # BasicSR counts one more after its loop
        dataset = dataloader.dataset.opt['name']
        if self._ended and self._validated.get(dataset) == current_iter:
            return
        self._read_figures()
        try:
            super().dist_validation(dataloader, current_iter, tb_logger, save_img)
        except _AskedToEnd:
            self._end_early()
        if get_dist_info()[0] == 0:
            file = Path(self.opt['path']['experiments_root']) / 'curve.csv'
            add_to_curve(file, current_iter, self.worked, dataset, self.metric_results)
        self._validated[dataset] = current_iter
        if self._saved and self._saved[1] == current_iter:  # BasicSR saves before it validates
            self.save_training_state(*self._saved)

    def _evaluate_image(self, *arguments: object) -> dict[str, object]:
        if self.is_train and not self.opt['dist'] and self.interruption.asked:
            raise _AskedToEnd
        return super()._evaluate_image(*arguments)


class _AskedToEnd(Exception):
    """Between two images of a validation."""
