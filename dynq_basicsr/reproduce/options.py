"""From a row of a table to the option files of its training and its tests."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from dynq_basicsr.errors import DynqError
from dynq_basicsr.option_files import locate
from dynq_basicsr.report.one_image import read_options
from dynq_basicsr.reproduce.rows import Backbone, Protocol, Quick, Row


@dataclass(frozen=True)
class Job:
    """What is to be run for a row.

    Attributes:
        name: Of the experiment.
        title: What the user reads.
        train: Options of the training; None: nothing to train.
        tests: Data set -> options of its test.
    """

    name: str
    title: str
    train: dict | None
    tests: dict[str, dict]


@dataclass(frozen=True)
class Plan:
    """What all jobs of a table have in common.

    Attributes:
        root: Data, experiments and results lie below it; option files may.
        backbone: The float network.
        sets: Data sets.
        protocol: Of the tests.
        quick: What is done less of; None: all is done.
        iterations: Of each training, instead of those of its option file or of ``quick``; its schedule follows.
        data_remedy: How training data that are missing are made, a clause; empty: the training says what it misses.
    """

    root: Path
    backbone: Backbone
    sets: tuple[str, ...]
    protocol: Protocol
    quick: Quick | None = None
    iterations: int | None = None
    data_remedy: str = ''

    def float_network(self) -> tuple[dict, str | None]:
        """Options and checkpoint of the float network; no checkpoint where networks are trained from scratch.

        Raises:
            DynqError: If either is missing; says where it comes from.
        """
        source = read_options(locate(self.root, self.backbone.source))
        network = dict(source['network_g'].get('backbone') or source['network_g'])
        paths = self.backbone.checkpoints
        if paths is None:
            own = source['path'].get('pretrain_network_g')
            if own is None:
                return network, None
            paths = (own,)
        for path in paths:
            found = locate(self.root, path)
            if found.is_file():
                return network, path if found == self.root / path else str(found)
        raise DynqError(
            f'--backbone {self.backbone.key}: no weights at {" or ".join(paths)}; {self.backbone.remedy}.'
        )

    def job(self, row: Row) -> Job:
        """What to run for a row.

        Raises:
            DynqError: If an option file or the weights are missing.
        """
        network, checkpoint = self.float_network()
        name, train = f'table_{self.backbone.key}_{row.key}', None
        if row.base:
            train = self._train_options(row, network, checkpoint)
            name = train['name'] = name + self._shorten(train)
            network, checkpoint = {'type': 'QuantizedSR'}, f'experiments/{name}/models/net_g_latest.pth'
        elif checkpoint is None:
            raise DynqError(
                f'{self.backbone.title} has no float weights; name them in path.pretrain_network_g of '
                f'{self.backbone.source}, and the other rows start from them, too.'
            )
        tests = {one: self._test_options(one, name, network, checkpoint) for one in self.sets}
        if train is not None and train['train'].get('ema_decay'):
            for options in tests.values():
                options['path']['param_key_g'] = 'params_ema'
        return Job(name, f'{row.label} {row.bits}', train, tests)

    def check_data(self, job: Job) -> None:
        """Look for the training data of a job.

        Raises:
            DynqError: If they are missing; says how to make them.
        """
        data = job.train['datasets']['train']
        for path in (data.get('dataroot_gt'), data.get('dataroot_lq')):
            if self.data_remedy and path and not (self.root / path).exists():
                raise DynqError(f'{path}: no such training data; {self.data_remedy}.')

    def shortens(self, row: Row) -> bool:
        """Whether a row's training is shorter than its option file has it."""
        return bool(row.base) and self.job(row).name != f'table_{self.backbone.key}_{row.key}'

    def _train_options(self, row: Row, network: dict, checkpoint: str | None) -> dict:
        options = read_options(locate(self.root, row.base.format(backbone=self.backbone.key)))
        options['network_g']['backbone'] = network
        options['path']['pretrain_network_g'] = checkpoint
        options.pop('val', None)  # the tests come afterwards
        options['datasets'] = {'train': options['datasets']['train']}
        override(options, self.backbone.train, new=False)
        override(options, row.overrides)
        return options

    def _shorten(self, options: dict) -> str:
        """Shorten a training in place; return what its name gets for that. Calibration is never shortened."""
        before, train, suffix = deepcopy(options), options['train'], ''
        if self.quick and train['total_iter'] != train.get('calibration_iter'):
            override(options, self.quick.train, new=False)
            suffix = '_quick' if options != before else ''
        iterations = self.iterations or (self.quick.iterations if self.quick else None)
        if iterations not in (None, train['total_iter']):
            set_iterations(train, iterations)
            suffix += f'_{iterations}'
        return suffix

    def _test_options(self, dataset: str, name: str, network: dict, checkpoint: str) -> dict:
        file, patch_size = self.protocol.file, self.protocol.patch_size
        options = read_options(locate(self.root, file))
        known = {one['name']: dict(one) for one in options['datasets'].values()}
        if dataset not in known:  # one that not everyone has, so the file does not name it: laid out as the others
            model = next(iter(known.values()))
            known[dataset] = {
                key: value.replace(model['name'], dataset) if isinstance(value, str) else value
                for key, value in model.items()
            }
            folder = known[dataset]['dataroot_gt']
            if not (self.root / folder).is_dir():
                raise DynqError(f'{folder}: no such folder; `dynq data test2k4k` makes Test2K and Test4K.')
        images = self.quick.images.get(dataset) if self.quick else None
        if images:
            known[dataset]['meta_info_file'] = self._first_images(dataset, known[dataset]['dataroot_gt'], images)
        options['name'] = f'{name}_{self.protocol.key}_{dataset}' + (f'_{images}' if images else '')
        options['datasets'] = {'test_1': known[dataset]}
        options['network_g'] = network
        options['path']['pretrain_network_g'] = checkpoint
        options['val'] |= {'patch_size': patch_size, 'patch_step': self.protocol.patch_step or patch_size}
        return options

    def _first_images(self, dataset: str, folder: str, count: int) -> str:
        """Write a list of the first images of a data set, as BasicSR reads it; return its path."""
        if not (self.root / folder).is_dir():
            raise DynqError(f'{folder}: no such folder; put or link the data there.')
        names = sorted(path.name for path in (self.root / folder).iterdir())[:count]
        path = f'experiments/tables/{dataset}_{count}.txt'
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text('\n'.join(names) + '\n', encoding='utf-8')
        return path


def set_iterations(train: dict, iterations: int) -> None:
    """Set the length of a training; the places in its learning rate's schedule keep their share of it.

    Args:
        train: BasicSR's section, changed in place.
        iterations: At least 1.
    """
    scheduler = train.get('scheduler') or {}
    for key in ('milestones', 'periods'):
        if key in scheduler:
            scheduler[key] = [max(1, one * iterations // train['total_iter']) for one in scheduler[key]]
    train['total_iter'] = iterations


def override(options: dict, changes: Mapping[str, object], new: bool = True) -> None:
    """Set options.

    Args:
        options: Changed in place.
        changes: Dotted keys and values.
        new: False: only those that are there.

    Raises:
        DynqError: If a key leads through something that is no section.
    """
    for dotted, value in changes.items():
        *sections, key = dotted.split('.')
        place = options
        for section in sections:
            place = place.setdefault(section, {}) if new else place.get(section, {})
            if not isinstance(place, dict):
                raise DynqError(f'{dotted}: {section} is {place!r}, not a section.')
        if new or key in place:
            place[key] = value
