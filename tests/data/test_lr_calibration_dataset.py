"""LRCalibrationDataset: what it gives, that it repeats, and how it fails."""

import logging
import pickle
from copy import deepcopy

import cv2
import lmdb
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.utils import set_random_seed

from dynq_basicsr.data.crops import CropSequence
from dynq_basicsr.data.lr_calibration_dataset import LRCalibrationDataset
from dynq_basicsr.errors import DynqError


def options(root, **changes):
    kind = 'lmdb' if str(root).endswith('.lmdb') else 'disk'
    return {'name': 'lr', 'type': 'LRCalibrationDataset', 'phase': 'train', 'dataroot_lq': str(root),
            'io_backend': {'type': kind}, 'num_images': 4, 'patch_size': 48, **changes}


def crops(dataset, seed=0):
    set_random_seed(seed)
    return [dataset[index]['lq'] for index in range(len(dataset))]


def equal(ones, others):
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


def test_shape_range_type_and_values(folders):
    _, lr = folders
    dataset = LRCalibrationDataset(options(lr, use_hflip=False))
    assert len(dataset) == 4
    for index, name in enumerate(('astronaut', 'chelsea', 'coffee', 'rocket')):
        item = dataset[index]
        assert set(item) == {'lq', 'lq_path'}
        assert item['lq_path'] == str(lr / f'{name}.png')
        assert item['lq'].shape == (3, 48, 48) and item['lq'].dtype == torch.float32
        assert 0 <= item['lq'].min() < item['lq'].max() <= 1
        # the crop is found in the picture, in RGB order
        picture = cv2.imread(str(lr / f'{name}.png'))[..., ::-1].astype(np.float32) / 255.
        windows = np.lib.stride_tricks.sliding_window_view(picture, (48, 48, 3))[:, :, 0]
        assert (windows == item['lq'].numpy().transpose(1, 2, 0)).all(axis=(2, 3, 4)).any()


def test_whole_image_equals_basicsr_s(folders, write_image, photos):
    _, lr = folders
    for name, photo in photos.items():
        write_image(lr / f'{name}.png', photo[:64, :64])
    ours = LRCalibrationDataset(options(lr, patch_size=64))
    plain = PairedImageDataset({'name': 'x', 'phase': 'val', 'scale': 1, 'dataroot_lq': str(lr), 'dataroot_gt': str(lr),
                                'io_backend': {'type': 'disk'}})
    theirs = {plain[index]['lq_path']: plain[index]['lq'] for index in range(4)}
    for index in range(4):
        assert torch.equal(ours[index]['lq'], theirs[ours[index]['lq_path']])


def test_lmdb_equals_folder(folders, lmdbs):
    from_folder, from_lmdb = (LRCalibrationDataset(options(root, num_images=3, use_hflip=True, use_rot=True))
                              for root in (folders[1], lmdbs[1]))
    assert [path.rsplit('/', 1)[-1] for path in from_folder.paths] == [f'{key}.png' for key in from_lmdb.paths]
    assert equal(crops(from_folder), crops(from_lmdb))


def test_crops_repeat_with_basicsr_s_seed_alone(folders):
    dataset = LRCalibrationDataset(options(folders[1], use_hflip=True, use_rot=True))
    first = crops(dataset, seed=1)
    assert equal(first, crops(dataset, seed=1))
    assert not equal(first, crops(dataset, seed=2))
    assert not torch.equal(dataset[0]['lq'], dataset[0]['lq'])


def test_fixed_crops_depend_on_seed_and_index_alone(folders):
    opt = options(folders[1], fixed_crops=True, use_hflip=True, use_rot=True)
    dataset = LRCalibrationDataset(opt)
    first = crops(dataset, seed=1)
    assert equal(first, crops(dataset, seed=2))
    state = torch.random.get_rng_state()
    assert torch.equal(dataset[3]['lq'], first[3])  # out of order
    assert torch.equal(torch.random.get_rng_state(), state)
    assert equal(first, crops(LRCalibrationDataset(opt)))
    assert not equal(first, crops(LRCalibrationDataset({**opt, 'seed': 5})))


def test_flips_and_rotations_are_all_reached_and_leave_the_cache_alone(folders, write_image, photos):
    _, lr = folders
    for name, photo in photos.items():
        write_image(lr / f'{name}.png', photo[:32, :32])
    plain = LRCalibrationDataset(options(lr, patch_size=32))[0]['lq']
    views = [torch.rot90(base, turns, (1, 2)) for base in (plain, plain.flip(2)) for turns in range(4)]
    dataset = LRCalibrationDataset(options(lr, patch_size=32, use_hflip=True, use_rot=True))
    before = dataset._images[0].clone()
    torch.manual_seed(0)
    drawn = [dataset[0]['lq'] for _ in range(100)]
    assert {next(k for k, view in enumerate(views) if torch.equal(view, crop)) for crop in drawn} == set(range(8))
    assert torch.equal(dataset._images[0], before)
    flipped = LRCalibrationDataset(options(lr, patch_size=32, use_hflip=True))
    views, drawn = (plain, plain.flip(2)), [flipped[0]['lq'] for _ in range(20)]
    assert {next(k for k, view in enumerate(views) if torch.equal(view, crop)) for crop in drawn} == {0, 1}


def test_choice_depends_on_the_seed_alone_and_is_sorted(folders):
    chosen = {seed: LRCalibrationDataset(options(folders[1], num_images=2, seed=seed)).paths for seed in range(12)}
    assert chosen[3] == LRCalibrationDataset(options(folders[1], num_images=2, seed=3)).paths
    assert all(paths == sorted(paths) and len(set(paths)) == 2 for paths in chosen.values())
    assert len({tuple(paths) for paths in chosen.values()}) > 2


@pytest.mark.parametrize('workers', [0, 1])
def test_basicsr_s_loader_gives_new_crops_in_every_epoch(workers, folders):
    opt = options(folders[1], num_images=2, batch_size_per_gpu=2, num_worker_per_gpu=workers, dataset_enlarge_ratio=1,
                  use_shuffle=True, prefetch_mode=None, pin_memory=False, persistent_workers=False, scale=2)
    dataset = LRCalibrationDataset(opt)
    loader = build_dataloader(dataset, opt, num_gpu=0, sampler=EnlargedSampler(dataset, 1, 0, 1), seed=10)

    def epochs():
        set_random_seed(10)
        return [batch['lq'] for _ in range(3) for batch in loader]

    first = epochs()
    assert [batch.shape for batch in first] == [(2, 3, 48, 48)] * 3
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    assert equal(first, epochs())


def test_it_pickles_and_leaves_its_options_alone(lmdbs):
    opt = options(lmdbs[1], fixed_crops=True)
    before = deepcopy(opt)
    dataset = LRCalibrationDataset(opt)
    assert opt == before
    assert equal(crops(dataset), crops(pickle.loads(pickle.dumps(dataset))))


def test_defaults_need_neither_scale_nor_backend(tmp_path, write_image, photos):
    for index in range(100):
        write_image(tmp_path / f'{index:03}.png', photos['rocket'][:96, index:index + 96])
    dataset = LRCalibrationDataset({'name': 'lr', 'type': 'LRCalibrationDataset', 'dataroot_lq': str(tmp_path)})
    assert len(dataset) == 100 and dataset[99]['lq'].shape == (3, 96, 96)


def test_a_list_names_files_anywhere(folders, tmp_path):
    (tmp_path / 'apart').mkdir()
    (folders[1] / 'rocket.png').rename(tmp_path / 'apart/my rocket (1).png')
    (folders[1] / 'list.txt').write_text(f'coffee.png\n{tmp_path}/apart/my rocket (1).png\n', encoding='utf-8')
    listed = {'meta_info_file': str(folders[1] / 'list.txt'), 'num_images': 2}
    expected = [str(folders[1] / 'coffee.png'), f'{tmp_path}/apart/my rocket (1).png']
    assert LRCalibrationDataset(options(folders[1], **listed)).paths == expected
    without_root = {key: value for key, value in options(folders[1], **listed).items() if key != 'dataroot_lq'}
    assert LRCalibrationDataset(without_root).paths == expected  # relative to the list
    (folders[1] / 'coffee.png').unlink()
    with pytest.raises(DynqError, match=r'coffee.png: the image cannot be read .*remove it from the list'):
        LRCalibrationDataset(without_root)
    with pytest.raises(DynqError, match=r"num_images is 3, but '.*list.txt' holds 2 images"):
        LRCalibrationDataset({**without_root, 'num_images': 3})


@pytest.mark.parametrize('kind', ['grey', 'alpha', '16 bit'])
def test_pictures_of_other_kinds_are_converted_where_that_is_asked_for(kind, folders, write_image):
    plain = cv2.imread(str(folders[1] / 'coffee.png'))[..., ::-1]
    _break_image(folders[1], write_image, kind)
    opt = options(folders[1], convert=True)
    with pytest.raises(DynqError, match='convert it'):
        LRCalibrationDataset({**opt, 'convert': False})
    image = LRCalibrationDataset(opt)._images[2].permute(1, 2, 0).numpy()
    assert np.array_equal(image, plain[..., 2:].repeat(3, axis=2) if kind == 'grey' else plain)


def test_luma(folders):
    dataset = LRCalibrationDataset(options(folders[1], color='y'))
    plain = PairedImageDataset({'name': 'x', 'phase': 'val', 'scale': 1, 'dataroot_lq': str(folders[1]), 'color': 'y',
                                'dataroot_gt': str(folders[1]), 'io_backend': {'type': 'disk'}})
    assert dataset[0]['lq'].shape == (1, 48, 48)
    expected = {plain[index]['lq_path']: plain[index]['lq'] for index in range(4)}
    for path, image in zip(dataset.paths, dataset._images, strict=True):
        torch.testing.assert_close(image, expected[path], rtol=0, atol=1e-6)


@pytest.mark.parametrize('workers', [0, 2])
def test_basicsr_s_loader_draws_a_sequence_in_order(workers, folders):
    opt = options(folders[1], num_crops=12, batch_size_per_gpu=2, num_worker_per_gpu=workers, use_hflip=True,
                  use_rot=True, seed=7, pin_memory=False, persistent_workers=False, prefetch_mode=None)
    dataset = LRCalibrationDataset(opt)
    assert len(dataset) == 12
    sampler = EnlargedSampler(dataset, 1, 0, 1)
    batches = list(build_dataloader(dataset, opt, num_gpu=0, sampler=sampler, seed=10))
    sequence = CropSequence(dataset._images, 48, 7)
    assert len(batches) == 6
    for number, batch in enumerate(batches, start=1):
        assert torch.equal(batch['lq'], sequence.batch(number, 2))
        assert batch['lq_path'] == [dataset.paths[sequence.index(2 * (number - 1) + k)] for k in range(2)]


def test_other_files_are_ignored_with_a_warning(folders, log_lines):
    _, lr = folders
    logging.getLogger('basicsr').setLevel(logging.INFO)
    (lr / 'Thumbs.db').write_bytes(b'x')
    (lr / '.DS_Store').write_bytes(b'x')
    assert len(LRCalibrationDataset(options(lr))) == 4
    assert [line for line in log_lines if line[0] == 'WARNING'] == [
        ('WARNING', "datasets.train.dataroot_lq: 1 file ignored, not an image: 'Thumbs.db'.")]


def _break_image(lr, write_image, kind):
    path, pixels = lr / 'coffee.png', cv2.imread(str(lr / 'coffee.png'))
    if kind == 'empty':
        path.write_bytes(b'')
    elif kind == 'truncated':
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == 'text':
        path.write_bytes(b'not an image')
    elif kind == 'grey':
        write_image(path, pixels[..., 0])
    elif kind == 'alpha':
        cv2.imwrite(str(path), np.dstack([pixels, pixels[..., 0]]))
    elif kind == '16 bit':
        cv2.imwrite(str(path), pixels.astype(np.uint16) * 257)
    elif kind == 'low':
        write_image(path, pixels[:47])
    elif kind == 'narrow':
        write_image(path, pixels[:, :47])


@pytest.mark.parametrize('kind, said', [
    ('empty', 'is empty'), ('truncated', 'cut off'), ('text', 'damaged'), ('grey', 'greyscale; convert it'),
    ('alpha', 'alpha channel; convert it'), ('16 bit', '16 bits per channel; convert it'),
    ('low', '120x47 pixels, smaller than a patch of 48; remove it or set datasets.train.patch_size: 47'),
    ('narrow', '47x88 pixels, smaller than a patch of 48')])
@pytest.mark.parametrize('backend', ['disk', 'lmdb'])
def test_a_bad_image_stops_before_the_first_iteration(backend, kind, said, folders, lmdbs, write_image):
    root, name = folders[1], str(folders[1] / 'coffee.png')
    _break_image(root, write_image, kind)
    if backend == 'lmdb':
        with lmdb.open(str(lmdbs[1]), map_size=64 * 2**20) as environment, environment.begin(write=True) as transaction:
            transaction.put(b'coffee', (root / 'coffee.png').read_bytes())
        root, name = lmdbs[1], f"key 'coffee' of {lmdbs[1]}"
    with pytest.raises(DynqError) as caught:
        LRCalibrationDataset(options(root))
    assert str(caught.value).startswith(f'{name}: ') and said in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('changes, said', [
    ({'num_imges': 3}, r"datasets.train: unknown option 'num_imges'. Did you mean 'num_images'"),
    ({'io_backend': {'type': 'disk', 'typ': 1}}, r"datasets.train.io_backend: unknown option 'typ'"),
    ({'io_backend': {'type': 'memcached'}}, r"io_backend.type: must be one of disk, lmdb, not 'memcached'"),
    ({'num_images': 5}, r"num_images is 5, but '.*LR' holds 4 images; add images or set num_images: 4"),
    ({'num_images': 0}, r'num_images: must be a whole number >= 1, not 0'),
    ({'num_images': 2.5}, r'num_images: must be a whole number >= 1, not 2.5'),
    ({'num_images': True}, r'num_images: must be a whole number >= 1, not True'),
    ({'patch_size': '48'}, r"patch_size: must be a whole number >= 1, not '48'"),
    ({'seed': -1}, r'seed: must be a whole number >= 0 and < 4294967296, not -1'),
    ({'seed': 2**32}, r'seed: must be a whole number .*, not 4294967296'),
    ({'fixed_crops': 'yes'}, r"fixed_crops: must be true or false, not 'yes'"),
    ({'dataroot_lq': None}, r'datasets.train.dataroot_lq: missing; name a folder or LMDB, or list files'),
    ({'io_backend': {'type': 'lmdb'}}, r'LR\' does not end in .lmdb'),
    ({'meta_info_file': 'no.txt'}, r'datasets.train.meta_info_file: no.txt cannot be read'),
    ({'num_crops': 0}, r'num_crops: must be a whole number'),
    ({'num_crops': 8, 'fixed_crops': True}, r'num_crops: fixed_crops gives each image one crop; leave one'),
    ({'convert': 'yes'}, r"convert: must be true or false, not 'yes'"),
    ({'color': 'rgb'}, r"color: must be y, or null, not 'rgb'"),
])
def test_bad_options(changes, said, folders):
    with pytest.raises(DynqError, match=said):
        LRCalibrationDataset({**options(folders[1]), **changes})


@pytest.mark.parametrize('changes', [{'meta_info_file': 'list.txt'}, {'convert': True}])
def test_what_is_for_files_alone(changes, lmdbs):
    with pytest.raises(DynqError, match=f'{next(iter(changes))}: is for files, not for LMDBs'):
        LRCalibrationDataset(options(lmdbs[1], **changes))


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DynqError, match=r"dataroot_lq: '.*nowhere' does not exist; point it at"):
        LRCalibrationDataset(options(tmp_path / 'nowhere'))
    (tmp_path / 'empty' / 'sub').mkdir(parents=True)
    with pytest.raises(DynqError, match=r"dataroot_lq: '.*empty' is empty; point it at"):
        LRCalibrationDataset(options(tmp_path / 'empty'))
    (tmp_path / 'empty' / 'notes.txt').write_text('x')
    with pytest.raises(DynqError, match=r"num_images is 4, but '.*empty' holds 0 images; point dataroot_lq at"):
        LRCalibrationDataset(options(tmp_path / 'empty'))
    with pytest.raises(DynqError, match=r"notes.txt' is a file, not a folder"):
        LRCalibrationDataset(options(tmp_path / 'empty' / 'notes.txt'))


def test_incomplete_lmdbs(tmp_path, lmdbs):
    root = lmdbs[1]
    with pytest.raises(DynqError, match=r"'.*no.lmdb' does not exist"):
        LRCalibrationDataset(options(tmp_path / 'no.lmdb'))
    listed = (root / 'meta_info.txt').read_text()
    (root / 'meta_info.txt').write_text(listed.replace('coffee', 'toffee'))
    with pytest.raises(DynqError, match=r"key 'toffee' is not in the database '.*LR.lmdb'"):
        LRCalibrationDataset(options(root))
    (root / 'meta_info.txt').write_text('\n')
    with pytest.raises(DynqError, match=r'meta_info.txt lists no image'):
        LRCalibrationDataset(options(root))
    for part in ('meta_info.txt', 'data.mdb'):
        (root / part).unlink()
        with pytest.raises(DynqError, match=rf"LR.lmdb' has no {part}; make the LMDB again"):
            LRCalibrationDataset(options(root))


def test_the_real_calibration_set(shared_data):
    root = shared_data / 'calibration' / 'DIV2K_test_LR_bicubic' / 'X4'
    dataset = LRCalibrationDataset(options(root, num_images=100, patch_size=96))
    assert [path[-10:] for path in (dataset.paths[0], dataset.paths[99])] == ['0901x4.png', '1000x4.png']
    assert sum(image.nbytes for image in dataset._images) < 60e6
    assert dataset[0]['lq'].shape == (3, 96, 96)
