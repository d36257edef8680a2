"""A model folder as an object of Python."""

import copy
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.model import FrozenModel


@pytest.fixture
def frozen(model):
    return FrozenModel(model.folder, threads=1)


def test_it_says_what_it_is(frozen, model):
    assert repr(frozen) == f'FrozenModel({str(model.folder)!r}, x2, onnxruntime)'


def test_pickles_and_copies_open_the_folder_again(model, photo):
    frozen = FrozenModel(model.folder, threads=1, patch=16)
    image = photo(40, 50)
    for other in (pickle.loads(pickle.dumps(frozen)), copy.deepcopy(frozen)):
        assert other is not frozen and repr(other) == repr(frozen)
        np.testing.assert_array_equal(other(image), frozen(image))


def test_images_of_pillow_and_tensors(frozen, photo):
    image = photo(24, 30)
    np.testing.assert_array_equal(frozen(Image.fromarray(image)), frozen(image))
    with pytest.raises(DynqError, match='not a tensor; give'):
        frozen(torch.rand(1, 3, 8, 8))
