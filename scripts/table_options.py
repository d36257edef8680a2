"""From a row of a table to the option files of its training and its tests."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from table_rows import Backbone, Row

from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.one_image import read_options

TEST_FILE = 'options/test_quantized_x4.yml'


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
        root: The project's folder.
        backbone: The float network.
        sets: Data sets.
        patch_size: Of the tests; None: whole images.
        quick_train: Overrides of a shorter recipe; None: the whole one.
        quick_images: Data set -> of how many images it is tested, of the quick plan.
    """

    root: Path
    backbone: Backbone
    sets: tuple[str, ...]
    patch_size: int | None
    quick_train: Mapping[str, object] | None = None
    quick_images: Mapping[str, int] | None = None

    def float_network(self) -> tuple[dict, str]:
        """Options and checkpoint of the float network.

        Raises:
            DynqError: If either is missing; says where it comes from.
        """
        options = dict(read_options(self.root / self.backbone.source)['network_g'])
        for path in self.backbone.checkpoints:
            if (self.root / path).is_file():
                return options, path
        raise DynqError(
            f'--backbone {self.backbone.key}: no weights at {" or ".join(self.backbone.checkpoints)}; '
            f'{self.backbone.remedy}.'
        )

    def job(self, row: Row) -> Job:
        """What to run for a row.

        Raises:
            DynqError: If an option file or the weights are missing.
        """
        network, checkpoint = self.float_network()
        name, train = f'table_{self.backbone.key}_{row.key}', None
        if row.base:
            train = self._train_options(row, name, network, checkpoint)
            if self.quick_train is not None and self._shorten(train):
                name = train['name'] = f'{name}_quick'
            network, checkpoint = {'type': 'QuantizedSR'}, f'experiments/{name}/models/net_g_latest.pth'
        tests = {one: self._test_options(one, name, network, checkpoint) for one in self.sets}
        return Job(name, f'{row.label} {row.bits}', train, tests)

    def _train_options(self, row: Row, name: str, network: dict, checkpoint: str) -> dict:
        options = read_options(self.root / row.base)
        options['name'] = name
        options['network_g']['backbone'] = network
        options['path']['pretrain_network_g'] = checkpoint
        options.pop('val', None)  # the tests come afterwards
        options['datasets'] = {'train': options['datasets']['train']}
        override(options, self.backbone.train, new=False)
        override(options, row.overrides)
        return options

    def _shorten(self, options: dict) -> bool:
        """Apply the overrides of a quick run; tell whether they changed anything. Calibration is never shortened."""
        before, train = deepcopy(options), options['train']
        if train['total_iter'] != train['calibration_iter']:
            override(options, self.quick_train, new=False)
        return options != before

    def _test_options(self, dataset: str, name: str, network: dict, checkpoint: str) -> dict:
        options = read_options(self.root / TEST_FILE)
        known = {one['name']: dict(one) for one in options['datasets'].values()}
        if dataset not in known:
            raise DynqError(f'{TEST_FILE} has no data set {dataset}, only {", ".join(known)}.')
        images = (self.quick_images or {}).get(dataset)
        if images:
            known[dataset]['meta_info_file'] = self._first_images(dataset, known[dataset]['dataroot_gt'], images)
        protocol = f'patches{self.patch_size}' if self.patch_size else 'whole'
        options['name'] = f'{name}_{protocol}_{dataset}' + (f'_{images}' if images else '')
        options['datasets'] = {'test_1': known[dataset]}
        options['network_g'] = network
        options['path']['pretrain_network_g'] = checkpoint
        options['val'] |= {'patch_size': self.patch_size, 'patch_step': self.patch_size}
        return options

    def _first_images(self, dataset: str, folder: str, count: int) -> str:
        """Write a list of the first images of a data set, as BasicSR reads it; return its path."""
        if not (self.root / folder).is_dir():
            raise DynqError(f'{folder}: no such folder; link the data with scripts/link_datasets.sh.')
        names = sorted(path.name for path in (self.root / folder).iterdir())[:count]
        path = f'experiments/tables/{dataset}_{count}.txt'
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text('\n'.join(names) + '\n', encoding='utf-8')
        return path


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
