"""Whatever fails at whatever step of upscale, export and quantize: the same command ends as if nothing had happened."""

from __future__ import annotations

import os
import shutil

import cv2
import pytest
import torch
from skimage import data

from dynq_basicsr import plugin
from dynq_basicsr.archs.arch_options import build_backbone
from tests.fuzz.commands import (
    BROKEN,
    FAILURES,
    FULL,
    as_left_by_the_dead,
    command,
    disturbed,
    sampled,
    steps_of,
    temporaries,
)

plugin.register()
pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

COUNT, PICTURE_COUNT = 1, 6  # steps of each command and failure
COMPACT = {'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 2, 'upscale': 2}
# Not every system has children that begin as copies, and with a GPU autograd has threads, which those lack.
POSSIBLE = FAILURES if hasattr(os, 'fork') and not torch.cuda.is_available() else (FULL, BROKEN)


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """A float checkpoint ``compact.pth``, ``photos``, and what is quantized of them: the model folders ``4``, ``6``."""
    root = tmp_path_factory.mktemp('inputs')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a child has no others
    torch.manual_seed(0)
    torch.save({'params': build_backbone(COMPACT).state_dict()}, root / 'compact.pth')
    (root / 'photos').mkdir()
    for index in range(3):
        cv2.imwrite(str(root / f'photos/{index}.png'), data.astronaut()[64 * index : 64 * index + 60, 190:262, ::-1])
    for bits in (4, 6):
        assert command(*quantize(root, root / str(bits), bits)).code == 0
    yield root
    torch.set_num_threads(threads)


def quantize(inputs, folder, bits=6):
    return ['quantize', inputs / 'compact.pth', inputs / 'photos', '-o', folder, '--method', 'minmax', '--bits', bits,
            '--device', 'cpu']  # fmt: skip


def export(inputs, folder):
    return ['export', inputs / '6/quantized.pth', '-o', folder]


def content(folder):
    """What lies in a folder, but for the page that tells how long it took, and the list with its checksum."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {name: value for name, value in found.items() if name not in ('report.html', 'dynq.sha256')}


@pytest.mark.parametrize('words', [quantize, export])
def test_a_model_folder_is_the_one_of_before_or_whole(inputs, tmp_path, words):
    before, model = content(inputs / '4'), tmp_path / 'work' / 'model'

    def begin():
        shutil.rmtree(model.parent, ignore_errors=True)
        shutil.copytree(inputs / '4', model)

    begin()
    steps = steps_of(*words(inputs, model))
    expected = content(model)
    assert expected != before
    for failure, step in sampled(steps, COUNT, POSSIBLE):
        begin()
        whole = disturbed(failure, step, model.parent, *words(inputs, model))
        as_left_by_the_dead(model.parent)
        if not model.exists():  # between two renames: whoever comes next puts it back
            assert content(next(path for path in temporaries(model.parent) if path.suffix == '.old')) == before
        else:
            assert content(model) in ([expected] if whole else [before, expected])
        assert command(*words(inputs, model)).code == 0
        assert content(model) == expected
        assert [path.name for path in model.parent.iterdir()] == ['model']


def test_pictures_are_whole_and_the_same_command_makes_the_others(inputs, tmp_path):
    def words(folder):
        return ['upscale', inputs / 'photos', '--model', inputs / '6', '--output', folder, '--threads', 1]

    steps = steps_of(*words(tmp_path / 'undisturbed'))
    expected = content(tmp_path / 'undisturbed')
    assert sorted(expected) == ['0_x2.png', '1_x2.png', '2_x2.png'] and len(steps) > 10
    for failure, step in sampled(steps, PICTURE_COUNT, POSSIBLE):
        folder = tmp_path / f'{failure} {step}'
        disturbed(failure, step, folder, *words(folder))
        if folder.is_dir():
            found = content(folder)
            assert {name: expected[name] for name in found if not name.startswith('.')}.items() <= found.items()
        assert command(*words(folder)).code == 0
        assert content(folder) == expected
