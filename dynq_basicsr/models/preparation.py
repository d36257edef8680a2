"""What a run of ours does once its options are known, before BasicSR moves or writes anything."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path

from basicsr.utils import get_root_logger
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.logger import initialized_logger
from basicsr.utils.registry import DATASET_REGISTRY
from filelock import FileLock, Timeout

from dynq_basicsr.atomic import sweep_below
from dynq_basicsr.compat.epochs import batches_per_epoch, too_few_images
from dynq_basicsr.compat.registries import find, is_ours, run_is_ours
from dynq_basicsr.data.checks import CHECKED
from dynq_basicsr.data.pairs import check_sizes
from dynq_basicsr.data.sizes import Sizes, check_images
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.patchwise_model import needs_ground_truth
from dynq_basicsr.models.result_paths import outputs
from dynq_basicsr.training.distributed import gather

_LEAST_SIDE = {'calculate_ssim': 11}  # pixels that a metric compares, at least: SSIM's window


class Run:
    """What a run holds as long as its options live: the lock on its folder, which the system drops with the process.

    While it lives, lines that do not fit on a full disk are left out of the log: what has to be written after them
    fails with a sentence, where Python would print a traceback for each line.

    Args:
        folder: The run's; its lock lies beside it.

    Raises:
        DynqError: If another run holds it, or no lock can be made there.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = FileLock(folder.with_name(f'.{folder.name}.lock'), timeout=0, is_singleton=True)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise DynqError(
                f'name: another run of the name {folder.name!r} is at work in {folder}; give this one another name or '
                'wait until that one has ended.'
            ) from None
        except OSError as error:
            raise DynqError(f'{folder}: cannot be used ({error.strerror or error}); check the path.') from error
        logging.raiseExceptions = _UnlessRunning(self)

    def __deepcopy__(self, memo: dict) -> None:
        """Nothing: BasicSR copies the options for a model, which does not hold what the pipeline holds."""
        return None

    def __del__(self) -> None:
        self._lock.release()


class _UnlessRunning:
    """What ``logging.raiseExceptions`` was, but false as long as a run lives."""

    def __init__(self, run: Run) -> None:
        self._run, self._before = weakref.ref(run), logging.raiseExceptions
        if isinstance(self._before, _UnlessRunning) and self._before._run() is None:
            self._before = self._before._before

    def __bool__(self) -> bool:
        return self._run() is None and bool(self._before)


def prepare(opt: dict) -> Run | None:
    """Have the data sets checked, and take hold of the run's folder; does nothing for a run that is none of ours.

    Args:
        opt: Finished options; data sets of BasicSR's give way to ours, which are strict.

    Returns:
        What the run holds until it ends; None on the processes that write nothing.

    Raises:
        DynqError: If there is no data set or one cannot serve, results would overwrite each other, or another run has
            the folder.
    """
    if not run_is_ours(opt):
        return None
    if not opt['datasets']:
        raise DynqError('datasets: there is no data set to test; give one, called test or test_1.')
    for options in opt['datasets'].values():
        strict = CHECKED.get(find(DATASET_REGISTRY, options['type']))
        if strict:
            options['type'] = strict.__name__
    with before_the_log():
        for phase, options in opt['datasets'].items():
            _check_dataset(phase, options, opt)
    _check_names(opt['datasets'])
    folder = Path(opt['path']['experiments_root' if opt['is_train'] else 'results_root'])
    return _take_hold(folder)


@contextmanager
def before_the_log() -> Iterator[None]:
    """Keep what is said in this block from setting up BasicSR's logger, which it does once, for want of a log file."""
    known = initialized_logger.get('basicsr', False)
    initialized_logger['basicsr'] = True
    try:
        yield
    finally:
        if not known:
            del initialized_logger['basicsr']


def _check_dataset(phase: str, options: Mapping, opt: Mapping) -> None:
    kind = find(DATASET_REGISTRY, options['type'])
    if not is_ours(kind):  # building those of others may cost anything
        return
    dataset = kind(deepcopy(options))
    is_train = options['phase'] == 'train'
    known = all(options.get(key) for key in (('scale', 'gt_size') if is_train else ('scale',)))  # not so in any run
    if known and (rest := check_images(dataset, options, partial(_check_sizes, options=options, opt=opt))):
        get_root_logger().warning(
            f'datasets.{phase}: reading the sizes of all images takes too long here; {rest} of {len(dataset)} are '
            'checked when their turn comes.'
        )
    if is_train:
        if batches_per_epoch(len(dataset), options, opt) == 0:
            raise too_few_images(len(dataset), options)
        return
    _check_metrics(phase, options, kind, opt)
    writers: dict[str, str] = {}
    for path in dataset.paths:
        file = path['lq_path'] if isinstance(path, Mapping) else path
        for output in outputs(opt, options['name'], file):
            if writers.setdefault(output, file) != file:
                raise DynqError(
                    f'datasets.{phase}: {writers[output]} and {file} would have the same name in the results, '
                    f'{output}; rename one of them.'
                )


def _check_sizes(sizes: Sizes, options: Mapping, opt: Mapping) -> None:
    if 'gt' in sizes:
        check_sizes(options, sizes)
    if options['phase'] != 'train':
        _check_borders(sizes['lq'], options['scale'], opt)


def _check_borders(image: tuple[str, int, int], scale: int, opt: Mapping) -> None:
    """Refuse metrics that would have nothing to compare between the borders of a result."""
    name, *sides = image
    for key, metric in ((opt.get('val') or {}).get('metrics') or {}).items():
        border, least = metric.get('crop_border'), _LEAST_SIDE.get(metric['type'], 1)
        if isinstance(border, int) and min(sides) * scale - 2 * border < least:
            raise DynqError(
                f'val.metrics.{key}.crop_border: {border} leaves too little of the result of {name}, '
                f'{sides[0] * scale}x{sides[1] * scale} pixels; give a smaller one, or larger images.'
            )


def _check_metrics(phase: str, options: Mapping, kind: type, opt: Mapping) -> None:
    if 'dataroot_gt' in getattr(kind, 'roots', ()):
        return
    for name, metric in ((opt.get('val') or {}).get('metrics') or {}).items():
        if needs_ground_truth(metric['type']):
            raise DynqError(
                f'val.metrics.{name}: {metric["type"]} compares with ground truth, which datasets.{phase} of type '
                f'{options["type"]} lacks; use PairedImageDataset or remove the metric.'
            )


def _check_names(datasets: Mapping[str, Mapping]) -> None:
    phases: dict[str, str] = {}
    for phase, options in datasets.items():
        if options['phase'] == 'train':
            continue
        other = phases.setdefault(str(options['name']).casefold(), phase)  # some file systems know no case
        if other != phase:
            raise DynqError(
                f'datasets.{phase}.name: {options["name"]!r} is the name of datasets.{other}, too, and results would '
                'overwrite each other; give it another name.'
            )


def _take_hold(folder: Path) -> Run | None:
    run, error = None, None
    if get_dist_info()[0] == 0:
        try:
            run = Run(folder)
            for place in (folder, folder.parent / '.measures'):
                sweep_below(place)
        except DynqError as one:
            error = one
    if message := gather(error and str(error))[0]:  # which all processes end with
        raise DynqError(message) from error
    return run
