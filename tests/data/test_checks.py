"""The checked data sets: every bad input is named, every good one comes out as BasicSR's own give it."""

import gc
import time
from functools import partial
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import paired_image_dataset, single_image_dataset
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.utils import FileClient, set_random_seed
from torch.utils.data import DataLoader

from dynq_basicsr.data.checks import (
    CheckedPairedImageDataset,
    CheckedSingleImageDataset,
    StrictReader,
    image_does_not_know_its_name,
)
from dynq_basicsr.errors import DynqError

image_does_not_know_its_name()


def paired(hr, lr, kind=CheckedPairedImageDataset, **changes):
    backend = 'lmdb' if str(hr).endswith('.lmdb') else 'disk'
    opt = {'name': 'set', 'phase': 'val', 'scale': 2, 'dataroot_gt': str(hr), 'dataroot_lq': str(lr),
           'io_backend': {'type': backend}, **changes}  # fmt: skip
    return kind({key: value for key, value in opt.items() if value is not ...})


def single(lr, kind=CheckedSingleImageDataset, **changes):
    backend = 'lmdb' if str(lr).endswith('.lmdb') else 'disk'
    opt = {'name': 'set', 'phase': 'test', 'dataroot_lq': str(lr), 'io_backend': {'type': backend}, **changes}
    return kind({key: value for key, value in opt.items() if value is not ...})


plain_paired = partial(paired, kind=PairedImageDataset)
plain_single = partial(single, kind=SingleImageDataset)


TRAIN = {'phase': 'train', 'gt_size': 64, 'use_hflip': True, 'use_rot': True}


def everything(make):
    set_random_seed(3)
    dataset = make()
    return [dataset[index] for index in range(len(dataset))]


def assert_same(ones, others):
    assert len(ones) == len(others) > 0
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert torch.equal(value, other[key]) if torch.is_tensor(value) else value == other[key]


def said(make):
    with pytest.raises(DynqError) as caught:
        everything(make)
    text = str(caught.value)
    assert '\n' not in text
    if '.lmdb' in text:  # the traceback keeps the data set, and that keeps its LMDBs open
        del caught
        gc.collect()
    return text


@pytest.mark.parametrize('changes', [{}, {'color': 'y'}, {'mean': [0.5] * 3, 'std': [0.5] * 3}, TRAIN])
@pytest.mark.parametrize('backend', ['disk', 'lmdb'])
def test_good_images_are_unchanged(backend, changes, folders, lmdbs):
    roots = folders if backend == 'disk' else lmdbs
    checked, checked_single = everything(partial(paired, *roots, **changes)), everything(partial(single, roots[1]))
    assert_same(checked, everything(partial(plain_paired, *roots, **changes)))
    assert_same(checked_single, everything(partial(plain_single, roots[1])))


def test_grey_and_turned_and_jpeg_images_are_unchanged(folders):
    hr, lr = folders
    for folder in folders:
        grey = cv2.imread(str(folder / 'coffee.png'), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / 'coffee.png'), grey)
        rocket = cv2.imread(str(folder / 'rocket.png'))
        (folder / 'rocket.png').unlink()
        content = cv2.imencode('.jpg', rocket)[1].tobytes()
        turn = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0'
        (folder / 'rocket.jpg').write_bytes(content[:2] + b'\xff\xe1' + (len(turn) + 2).to_bytes(2, 'big') + turn
                                            + content[2:])
    checked = everything(partial(paired, hr, lr))
    shapes = {item['lq_path'].rsplit('/', 1)[-1]: tuple(item['lq'].shape) for item in checked}
    assert shapes['rocket.jpg'] == (3, 120, 84)  # upright: 120x84 pixels are stored
    grey = next(item['gt'] for item in checked if item['gt_path'].endswith('coffee.png'))
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[0], grey[2])
    assert_same(checked, everything(partial(plain_paired, hr, lr)))


@pytest.mark.parametrize('name, template', [('Set5', '{}x4'), ('Set14', '{}x4')])
def test_real_benchmarks_are_unchanged(name, template, shared_data):
    root = shared_data / 'benchmarks' / name
    roots, options = (root / 'HR', root / 'LR_bicubic' / 'X4'), {'scale': 4, 'filename_tmpl': template}
    assert_same(everything(partial(paired, *roots, **options)), everything(partial(plain_paired, *roots, **options)))


def test_the_reader_is_wrapped_once():
    image_does_not_know_its_name()
    for module in (paired_image_dataset, single_image_dataset):
        assert isinstance(module.imfrombytes, StrictReader) and not isinstance(module.imfrombytes.plain, StrictReader)


def test_the_checks_cost_little(tmp_path, photos, write_image):
    photo = np.tile(photos['coffee'], (3, 3, 1))
    for name in ('HR', 'LR'):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / 'a.png', photo)

    def fastest(make):
        dataset = make(tmp_path / 'HR', tmp_path / 'LR', scale=1)
        seconds = []
        for _ in range(15):
            start = time.perf_counter()
            dataset[0]
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    # the difference measured is noise; the margin is for a busy machine
    assert fastest(paired) < 1.5 * fastest(plain_paired)


def test_workers_pass_the_sentence_on(folders):
    hr, lr = folders
    (lr / 'coffee.png').write_bytes(b'')
    with pytest.raises(DynqError, match=r'LR/coffee.png: the image is empty'):
        list(DataLoader(paired(hr, lr), num_workers=1))


def _pixels(path):
    return cv2.imread(str(path))


BAD_FILES = {
    'empty': (lambda path: path.write_bytes(b''), 'the image is empty (0 bytes)'),
    'truncated': (lambda path: path.write_bytes(path.read_bytes()[:-3000]), 'damaged or cut off'),
    'text': (lambda path: path.write_bytes(b'no image'), 'damaged or cut off'),
    'alpha': (lambda path: cv2.imwrite(str(path), np.dstack([_pixels(path)] * 2)[..., :4]), 'alpha channel; convert'),
    '16 bit': (lambda path: cv2.imwrite(str(path), _pixels(path).astype(np.uint16) * 257), '16 bits per channel'),
}


@pytest.mark.parametrize('kind', BAD_FILES)
@pytest.mark.parametrize('backend', ['disk', 'lmdb'])
@pytest.mark.parametrize('which', [0, 1], ids=['gt', 'lq'])
@pytest.mark.parametrize('phase', ['val', 'train'])
def test_bad_images_are_named(phase, which, backend, kind, folders, lmdbs):
    harm, problem = BAD_FILES[kind]
    path = folders[which] / 'coffee.png'
    harm(path)
    roots, name = folders, str(path)
    if backend == 'lmdb':
        with lmdb.open(str(lmdbs[which]), map_size=64 * 2**20) as database, database.begin(write=True) as transaction:
            transaction.put(b'coffee', path.read_bytes())
        roots, name = lmdbs, f"key 'coffee' of {lmdbs[which]}"
    changes = TRAIN if phase == 'train' else {}
    text = said(partial(paired, *roots, **changes))
    assert text.startswith(f'{name}: the image ') and problem in text
    if which == 1:
        assert said(partial(single, roots[1])) == text


def test_missing_key_is_named(lmdbs):
    with lmdb.open(str(lmdbs[1]), map_size=64 * 2**20) as database, database.begin(write=True) as transaction:
        transaction.delete(b'coffee')
    for make in (partial(paired, *lmdbs), partial(single, lmdbs[1])):
        assert said(make).startswith(f"key 'coffee' is not in the database '{lmdbs[1]}'")


def test_lmdbs_of_different_images(lmdbs):
    meta = lmdbs[1] / 'meta_info.txt'
    meta.write_text(meta.read_text().replace('coffee', 'toffee'))
    text = said(partial(paired, *lmdbs))
    assert "'coffee', 'toffee'" in text and str(lmdbs[0]) in text and str(lmdbs[1]) in text


def test_incomplete_lmdbs(folders, lmdbs):
    assert 'does not end in .lmdb' in said(partial(paired, *folders, io_backend={'type': 'lmdb'}))
    assert 'does not end in .lmdb' in said(partial(single, folders[1], io_backend={'type': 'lmdb'}))
    for part in ('meta_info.txt', 'data.mdb'):
        (lmdbs[1] / part).unlink()
        for make in (partial(paired, *lmdbs), partial(single, lmdbs[1])):
            assert f"dataroot_lq: '{lmdbs[1]}' has no {part}" in said(make)


def test_an_lmdb_that_is_open_already(lmdbs):
    first, second = single(lmdbs[1]), single(lmdbs[1])
    assert first[0]['lq'].shape[0] == 3
    with pytest.raises(DynqError, match='LR.lmdb: an LMDB can be open only once in a process'):
        second[0]


@pytest.mark.parametrize('which, option', [(0, 'dataroot_gt'), (1, 'dataroot_lq')])
def test_missing_and_empty_folders(which, option, folders, tmp_path):
    (tmp_path / 'empty').mkdir()
    for other, problem in ((tmp_path / 'nowhere', 'does not exist'), (tmp_path / 'empty', 'is empty')):
        roots = [other if which == index else folder for index, folder in enumerate(folders)]
        assert f"data set 'set': {option}: '{other}' {problem}" in said(partial(paired, *roots))
        if which == 1:
            assert f"data set 'set': {option}: '{other}' {problem}" in said(partial(single, other))


@pytest.mark.parametrize('which, option', [(0, 'dataroot_gt'), (1, 'dataroot_lq')])
def test_stray_files(which, option, folders):
    (folders[which] / 'Thumbs.db').write_bytes(b'x')
    text = said(partial(paired, *folders))
    assert text == (f"data set 'set': {option}: '{folders[which]}' holds a file that is not an image, 'Thumbs.db'; "
                    'remove it.')
    if which == 1:
        assert said(partial(single, folders[1])) == text


def test_different_numbers(folders):
    hr, lr = folders
    (hr / 'coffee.png').unlink()
    assert said(partial(paired, hr, lr)) == (f"data set 'set': 'coffee.png' of '{lr}' has no GT in '{hr}' "
                                             '(4 LQ images, 3 GT images); remove it or add its GT.')
    (lr / 'coffee.png').unlink()
    (lr / 'rocket.png').unlink()
    assert "'rocket.png' is not in " in said(partial(paired, hr, lr))
    assert "(2 LQ images, 3 GT images)" in said(partial(paired, hr, lr))


def test_names_that_do_not_match(folders):
    hr, lr = folders
    (lr / 'coffee.png').rename(lr / 'coffeex2.png')
    text = said(partial(paired, hr, lr))
    assert "'coffee.png' is not in" in text and "correct filename_tmpl '{}'. Did you mean 'coffeex2.png'?" in text
    text = said(partial(paired, hr, lr, filename_tmpl='{}x4'))
    assert "'astronautx4.png', 'chelseax4.png', 'coffeex4.png' and 1 more is not in" in text
    assert "filename_tmpl '{}{}' cannot be filled in" in said(partial(paired, hr, lr, filename_tmpl='{}{}'))


@pytest.mark.parametrize('cut', [2, -40], ids=['gt too large', 'gt too small'])
@pytest.mark.parametrize('phase', ['val', 'test', 'train'])
@pytest.mark.parametrize('backend', ['disk', 'lmdb'])
def test_unequal_scale(backend, phase, cut, folders, tmp_path, as_lmdb):
    hr, lr = folders
    gt, lq = (cv2.imread(str(folder / 'rocket.png')) for folder in folders)
    if cut > 0:
        cv2.imwrite(str(lr / 'rocket.png'), lq[:-cut])
    else:
        cv2.imwrite(str(hr / 'rocket.png'), gt[:cut])
    size_gt, size_lq = ('240x168', '120x82') if cut > 0 else ('240x128', '120x84')
    roots, names = folders, (str(hr / 'rocket.png'), str(lr / 'rocket.png'))
    if backend == 'lmdb':
        roots = [as_lmdb(folder, tmp_path / f'{folder.name}2.lmdb') for folder in folders]
        names = [f"key 'rocket' of {root}" for root in roots]
    changes = TRAIN if phase == 'train' else {'phase': phase}
    text = said(partial(paired, *roots, **changes))
    assert text.startswith(f'{names[0]}: GT is {size_gt} pixels and LQ ({names[1]}) {size_lq}, but at scale 2 GT must')
    assert 'correct scale' in text


def test_wrong_scale_in_the_option_file(folders):
    assert 'at scale 4 GT must be 480x' in said(partial(paired, *folders, scale=4))


def test_training_patch_larger_than_the_image(folders):
    text = said(partial(paired, *folders, **{**TRAIN, 'gt_size': 192}))
    assert 'smaller than the patch of gt_size 192 at scale 2' in text and '/LR/' in text


def test_meta_info_file(folders, tmp_path):
    listing = tmp_path / 'meta.txt'
    listing.write_text('coffee.png (176,240,3)\nrocket.png (168,240,3)\n')
    assert len(everything(partial(paired, *folders, meta_info_file=str(listing)))) == 2
    assert len(everything(partial(single, folders[1], meta_info_file=str(listing)))) == 2
    listing.write_text('toffee.png (176,240,3)\n')
    for make, folder in ((partial(paired, *folders), folders[0]), (partial(single, folders[1]), folders[1])):
        text = said(partial(make, meta_info_file=str(listing)))
        assert f"lists 'toffee.png', but {folder}/toffee.png is no file" in text
        assert "meta_info_file '/no.txt' is not a file" in said(partial(make, meta_info_file='/no.txt'))
    assert 'meta_info_file None is not a file' in said(partial(single, folders[1], meta_info_file=None))
    listing.write_text('\n')
    assert 'lists no image' in said(partial(paired, *folders, meta_info_file=str(listing)))
    listing.write_bytes('größe.png'.encode('latin-1'))
    for make in (partial(paired, *folders), partial(single, folders[1])):
        assert 'is no file; correct the list' in said(partial(make, meta_info_file=str(listing)))


def test_meta_info_file_with_spaces_blank_lines_and_no_sizes(folders, tmp_path):
    for folder in folders:
        (folder / 'coffee.png').rename(folder / 'my (old) coffee.png')
    listing = tmp_path / 'meta.txt'
    listing.write_text('\nmy (old) coffee.png (176,240,3)\n\n  rocket.png\n', encoding='utf-8-sig')
    names = ['my (old) coffee.png', 'rocket.png']
    pairs = paired(*folders, meta_info_file=str(listing))
    assert [Path(one['lq_path']).name for one in pairs.paths] == names
    assert [Path(one).name for one in single(folders[1], meta_info_file=str(listing)).paths] == names
    assert len(everything(lambda: pairs)) == 2


@pytest.mark.parametrize('changes, problem', [
    ({'dataroot_gt': ...}, 'the option dataroot_gt is missing'), ({'dataroot_lq': None}, 'dataroot_lq is missing'),
    ({'io_backend': ...}, 'the option io_backend is missing'),
    ({'io_backend': {'typ': 'disk'}}, 'io_backend needs a type'),
    ({'io_backend': {'type': 'disk', 'root': 1}}, 'io_backend: '), ({'scale': ...}, 'the option scale is missing'),
    ({'phase': 'train'}, 'the option gt_size is missing')])
def test_missing_options(changes, problem, folders):
    assert problem in said(partial(paired, *folders, **changes))


def test_index_errors_stay_basicsr_s(folders):
    with pytest.raises(IndexError):
        paired(*folders)[4]


def test_a_subclass_may_bring_a_file_client_of_its_own(folders):
    class OwnClient(CheckedPairedImageDataset):
        def __init__(self, opt):
            super().__init__(opt)
            self.file_client = FileClient('disk')

    assert paired(*folders, kind=OwnClient)[0]['lq'].shape[0] == 3


def test_basicsr_s_own_classes_convert_as_ever(folders):
    hr, lr = folders
    for path in (hr / 'coffee.png', lr / 'coffee.png'):
        cv2.imwrite(str(path), _pixels(path).astype(np.uint16) * 257)
    assert 'has 16 bits per channel' in said(partial(paired, hr, lr))
    assert all(item['lq'].max() > 0 for item in everything(partial(plain_paired, hr, lr)))
    (lr / 'coffee.png').write_bytes(b'')
    with pytest.raises(cv2.error):
        everything(partial(plain_paired, hr, lr))
