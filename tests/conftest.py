"""What all tests share."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch

# Fixtures of several rooms: trainings, and model folders.
pytest_plugins = ['tests.model_fixtures', 'tests.folder_fixtures']

REPOSITORY = Path(__file__).resolve().parents[1]

# The suite is measured on two cores; more threads only make small tensors slower.
torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', '2')))


@pytest.fixture(scope='session')
def repository() -> Path:
    """Return the folder that holds setup.py."""
    return REPOSITORY


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Return the folder of real images and weights, or skip."""
    folder = REPOSITORY.parent / 'shared' / 'data'
    if not folder.is_dir():
        pytest.skip('the real images and weights (../shared/data) are not here')
    return folder


@pytest.fixture(scope='session')
def compiler() -> None:
    """A C++ compiler, which ``train.compile`` needs."""
    if not any(map(shutil.which, ('g++', 'clang++', 'c++'))):
        pytest.skip('no C++ compiler is here')


@pytest.fixture
def log_lines():
    """What BasicSR's logger says; it does not propagate, so caplog would not see it."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger('basicsr')
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(before)
