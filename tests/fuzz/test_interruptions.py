"""Whatever fails at whatever step of writing: the old is there or the new, and nothing else stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dynq_basicsr.atomic import sweep
from dynq_basicsr.backbones.torch_files import read_torch_file
from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.model_folder import writing_folder
from dynq_basicsr.imaging.image_files import write_picture
from dynq_basicsr.imaging.pictures import Picture
from dynq_basicsr.runtime.manifest import Manifest
from dynq_basicsr.training.records import TestRecords
from dynq_basicsr.training.saving import save_atomically
from tests.fuzz.interruptions import KILLED, failing, in_a_child, interrupted, killed

OLD, NEW = 1, 200


@dataclass(frozen=True)
class Case:
    """Something that is written: how, and what a reader makes of it."""

    name: str
    write: Callable[[Path, int], None]
    read: Callable[[Path], int]


def write_model(target: Path, value: int) -> None:
    with writing_folder(target) as writer:
        entry = writer.add('a4.onnx', bytes([value]) * 10)
        writer.finish({
            'scale': value % 7 + 1, 'channels': 3, 'size': {'multiple': 1, 'least': 1}, 'network': entry,
            'codes': {'a4': {'grids': {}}},
            'policy': {'type': 'fixed', 'code': 'a4'}, 'tiling': {},
        })  # fmt: skip


def read_model(target: Path) -> int:
    manifest = Manifest.load(target)
    value = manifest.network.read()[0]
    assert manifest.scale == value % 7 + 1
    return value


def write_records(target: Path, value: int) -> None:
    TestRecords(target.parent).add('Set5', {'psnr': value}, [{'image': 'a', 'psnr': value}])


CASES = [
    Case('net.pth', lambda path, value: save_atomically({'params': {'w': torch.full((500,), value)}}, path),
         lambda path: int(read_torch_file(path)['params']['w'].unique())),
    Case('model', write_model, read_model),
    Case('a.png', lambda path, value: write_picture(Picture(np.full((9, 9, 3), value, np.uint8)), path),
         lambda path: int(np.unique(cv2.imread(str(path))).item())),
    Case('per_image.csv', write_records, lambda path: int(path.read_text().splitlines()[1].rpartition(',')[2])),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    """One of ``CASES``."""
    return request.param


@pytest.fixture
def prepare(case, tmp_path):
    """``prepare(number)``: write the old one in a folder of its own; where it is, and what lies beside it."""

    def write(number: int) -> tuple[Path, list[str]]:
        folder = tmp_path / str(number)
        folder.mkdir()
        case.write(folder / case.name, OLD)
        return folder / case.name, names(folder)

    return write


@pytest.fixture
def steps(case, prepare):
    """How many steps replacing the old one takes."""
    path, _ = prepare(-1)
    with interrupted(-1, killed) as found:
        case.write(path, NEW)
    assert case.read(path) == NEW and len(found) >= 5
    return len(found)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EIO])
def test_a_failure_is_a_sentence_and_leaves_nothing(case, prepare, steps, number):
    for step in range(steps):
        path, before = prepare(step)
        sentence = None
        with interrupted(step, failing(number)):
            try:
                case.write(path, NEW)
            except DynqError as error:
                sentence = str(error)
        if sentence is None:  # a folder that is there already, say
            assert case.read(path) == NEW
        else:
            assert str(path.parent) in sentence and os.strerror(number) in sentence and '\n' not in sentence
            assert case.read(path) in (OLD, NEW)
        assert names(path.parent) == before


def test_ctrl_c_leaves_nothing(case, prepare, steps):
    def fail(*names) -> None:
        raise KeyboardInterrupt

    for step in range(steps):
        path, before = prepare(step)
        with interrupted(step, fail), pytest.raises(KeyboardInterrupt):
            case.write(path, NEW)
        assert case.read(path) in (OLD, NEW) and names(path.parent) == before


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system has no fork')
def test_a_kill_leaves_what_the_next_start_removes(case, prepare, steps):
    left = 0
    for step in range(steps):
        path, before = prepare(step)

        def write(step=step, path=path) -> None:
            with interrupted(step, killed):
                case.write(path, NEW)

        assert in_a_child(write) == KILLED
        left += names(path.parent) != before
        found = case.read(path)  # as soon as that, without a writer's help
        assert found in (OLD, NEW)
        sweep(path.parent)
        assert names(path.parent) == before and case.read(path) == found
    assert left
