"""Images to calibrate with, from files, arrays, tensors and loaders."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from dynq_basicsr.data.channels import as_float
from dynq_basicsr.data.pictures import WINDOW
from dynq_basicsr.errors import DynqError
from dynq_basicsr.workflow.pictures import gather


def photo(seed, height=48, width=56, channels=3):
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    for index in range(12):
        cv2.imwrite(str(tmp_path / f'{index}.png'), photo(index))
    (tmp_path / 'notes.txt').write_text('no picture')
    return tmp_path


def test_a_folder_is_shared_out_between_calibration_and_a_look_at_the_result(folder):
    found = gather(folder, most=100, channels=3, seed=1)
    assert (len(found.calibration), len(found.held_out), found.patch) == (10, 2, 48)
    everything = {one.numpy().tobytes() for one in (*found.calibration, *found.held_out)}
    expected = {np.ascontiguousarray(photo(index)[..., ::-1].transpose(2, 0, 1)).tobytes() for index in range(12)}
    assert everything == expected


def test_no_more_than_asked_for(folder):
    found = gather(folder, most=3, channels=3, seed=1)
    assert (len(found.calibration), len(found.held_out)) == (3, 5)
    other = gather(folder, most=3, channels=3, seed=2)
    assert any(not torch.equal(one, two) for one, two in zip(found.calibration, other.calibration, strict=True))


def test_one_picture_is_calibrated_with(folder):
    found = gather([folder / '0.png'], most=100, channels=3, seed=1)
    assert (len(found.calibration), len(found.held_out)) == (1, 0)


def test_pictures_of_any_kind(tmp_path):
    cv2.imwrite(str(tmp_path / 'grey.png'), photo(0, channels=1))
    cv2.imwrite(str(tmp_path / 'deep.png'), photo(1).astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / 'alpha.png'), photo(2, channels=4))
    cv2.imwrite(str(tmp_path / 'photo.jpg'), photo(3))
    found = gather(tmp_path, most=100, channels=3, seed=1)
    assert [tuple(one.shape) for one in (*found.calibration, *found.held_out)] == 4 * [(3, 48, 56)]
    assert {one.dtype for one in found.calibration} == {torch.uint8}
    deep = gather(tmp_path / 'deep.png', 1, 3, 1).calibration[0]
    assert torch.equal(deep, torch.from_numpy(photo(1)[..., ::-1].transpose(2, 0, 1).copy()))


def test_luma_for_a_network_of_one_channel():
    white = np.full((48, 48, 3), 255, np.uint8)
    (image,) = gather(white, 1, 1, 1).calibration
    assert image.shape == (1, 48, 48)
    assert image.unique().tolist() == pytest.approx([235 / 255])  # BT.601, as BasicSR's color: y


def test_large_pictures_keep_a_window():
    (image,) = gather(photo(0, WINDOW + 40, 50), 1, 3, 1).calibration
    assert image.shape == (3, WINDOW, 50)


@pytest.mark.parametrize(
    'images',
    [
        [photo(0), photo(1)],
        np.stack([photo(0), photo(1)]),
        torch.rand(2, 3, 48, 56),
        [torch.rand(3, 48, 56), torch.rand(3, 48, 56)],
        DataLoader(TensorDataset(torch.rand(2, 3, 48, 56), torch.rand(2, 3, 96, 112)), batch_size=2),
        [{'lq': torch.rand(1, 3, 48, 56), 'gt': torch.rand(1, 3, 80, 112)}, {'lq': torch.rand(1, 3, 48, 56)}],
        [np.float32(photo(0) / 255), photo(1, channels=1)],
    ],
    ids=['arrays', 'stacked', 'batch', 'tensors', 'loader', 'mappings', 'float and grey'],
)
def test_what_python_holds(images):
    found = gather(images, 100, 3, 1)
    assert (len(found.calibration), len(found.held_out), found.patch) == (1, 1, 48)
    for one in (*found.calibration, *found.held_out):
        assert one.shape[0] == 3
        assert 0 <= as_float(one).min() < 0.1 and 0.9 < as_float(one).max() <= 1


@pytest.mark.parametrize(
    ('images', 'told'),
    [
        (torch.rand(3, 40, 40) * 255, 'divide them by 255'),
        (torch.full((3, 40, 40), float('nan')), 'must lie in'),
        (torch.rand(4, 40, 40), '1 or 3 channels'),
        (np.zeros((40, 40, 2), np.uint8), 'images: an image must be'),
        (np.zeros((40, 40, 3), np.int32), 'images: an image must be'),
        (np.zeros((40, 40, 3)) + 9, 'images: an image of floats must lie'),
        (np.zeros((8, 40, 3), np.uint8), 'smaller than 16 pixels'),
        ([], 'there are none'),
        (7, 'not int'),
        ([7], 'not int'),
        (torch.ones(3, 48, 48, dtype=torch.int64), 'must be uint8, or float'),
        ([{'image': torch.rand(1, 3, 40, 40)}], 'without a key lq'),
    ],
)
def test_what_does_not_fit_is_refused(images, told):
    with pytest.raises(DynqError, match=told):
        gather(images, 100, 3, 1)


def test_small_pictures_serve_where_there_are_no_others(tmp_path):
    small = [photo(0, 20, 30), photo(1, 24, 18), photo(2, 9, 9)]
    found = gather(small, 100, 3, 1)
    assert (found.patch, len(found.calibration), len(found.held_out), found.notes) == (found.patch, 1, 1, [])
    assert found.patch in (18, 20)
    mixed = gather([*small, photo(3), photo(4)], 100, 3, 1)
    assert (mixed.patch, mixed.notes) == (48, ['3 smaller than 48 pixels left out'])


def test_files_and_arrays_together_and_whatever_gives_files(folder):
    assert len(gather([folder / '0.png', photo(1)], 100, 3, 1).calibration) == 1
    assert len(gather(folder.glob('*.png'), 100, 3, 1).calibration) == 10
    assert len(gather((str(path) for path in folder.glob('*.png')), 3, 3, 1).calibration) == 3


def test_of_a_loader_no_more_is_read_than_needed():
    def endless():
        while True:
            yield torch.rand(1, 3, 48, 48)

    assert len(gather(endless(), 3, 3, 1).calibration) == 3


def test_folders_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DynqError, match='holds no images'):
        gather(tmp_path, 100, 3, 1)
    with pytest.raises(DynqError, match='no such file or folder'):
        gather(tmp_path / 'missing', 100, 3, 1)


def test_files_are_those_of_the_images(folder):
    found = gather([folder, photo(20)], 100, 3, 1)
    assert len(found.files) == len(found.calibration)
    for file, image in zip(found.files, found.calibration, strict=True):
        expected = photo(20) if file is None else photo(int(file.stem))[..., ::-1]
        assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_a_name_with_a_line_break_is_left_out(folder):
    (folder / '0.png').rename(folder / 'a\nb.png')
    found = gather(folder, 100, 3, 1)
    assert len(found.calibration) + len(found.held_out) == 11
    assert 'line break' in found.notes[0] and '\n' not in found.notes[0]


class Like:
    """What says how it is an array."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


@pytest.mark.parametrize(
    'given',
    [
        lambda array: array.astype(np.uint16) * 257,
        Image.fromarray,
        lambda array: Image.fromarray(np.dstack([array, 255 - array[..., 0]])),
        Like,
        lambda array: torch.from_numpy(array).permute(2, 0, 1),
    ],
    ids=['uint16', 'Pillow', 'with transparency', 'like an array', 'tensor'],
)
def test_all_kinds_are_read_as_the_file_is(given):
    array = photo(0)
    for images in (given(array), [given(array)]):
        (found,) = gather(images, 1, 3, 1).calibration
        assert found.dtype == torch.uint8 and np.array_equal(found.permute(1, 2, 0).numpy(), array)
