"""Sizes of all images, told by their first bytes."""

import shutil

import cv2
import numpy as np
import pytest
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from skimage import data

from dynq_basicsr.data import sizes
from dynq_basicsr.data.checks import CheckedPairedImageDataset
from dynq_basicsr.data.pairs import check_sizes
from dynq_basicsr.data.sizes import WHOLE, check_images
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_bytes import peek_size

COUNT = WHOLE + 12
PHOTO = np.tile(data.astronaut()[:200, :200, ::-1], (2, 2, 1))  # of which a PNG has more than ``HEAD`` bytes


@pytest.fixture
def pairs(tmp_path):
    """``pairs(ending, **others)``: a data set of pairs at scale 2, some by number with another size of LQ."""

    def make(ending='.png', backend='disk', **others):
        for kind, scale in (('LQ', 1), ('GT', 2)):
            (tmp_path / kind).mkdir()
            for number in range(COUNT):
                name = f'{number:02d}'
                height, width = others.get(f'at_{number}', (100, 180)) if kind == 'LQ' else (100, 180)
                image = PHOTO[: height * scale, : width * scale]
                assert cv2.imwrite(str(tmp_path / kind / f'{name}{ending}'), image)
            if backend == 'lmdb':
                names = sorted(path.name for path in (tmp_path / kind).iterdir())
                keys = [name.partition('.')[0] for name in names]
                make_lmdb_from_imgs(str(tmp_path / kind), str(tmp_path / f'{kind}.lmdb'), names, keys)
        suffix = '.lmdb' if backend == 'lmdb' else ''
        roots = {f'dataroot_{kind.lower()}': str(tmp_path / f'{kind}{suffix}') for kind in ('LQ', 'GT')}
        options = {'name': 'pairs', 'phase': 'train', 'scale': 2, 'gt_size': 32, 'io_backend': {'type': backend},
                   **roots}  # fmt: skip
        return CheckedPairedImageDataset({**options, 'io_backend': dict(options['io_backend'])}), options

    return make


def check(dataset, options, **more):
    seen = []

    def one(found):
        seen.append(found)
        check_sizes(options, found)

    return check_images(dataset, options, one, **more), seen


@pytest.mark.parametrize('ending, backend', [('.png', 'disk'), ('.jpg', 'disk'), ('.bmp', 'disk'), ('.png', 'lmdb')])
def test_every_image_is_compared(pairs, ending, backend, tmp_path):
    dataset, options = pairs(ending, backend)
    left_out, seen = check(dataset, options)
    assert left_out == 0 and len(seen) == COUNT and all(one['lq'][1:] == (180, 100) for one in seen)
    shutil.rmtree(tmp_path / 'LQ')
    shutil.rmtree(tmp_path / 'GT')
    for path in tmp_path.glob('*.lmdb'):
        shutil.rmtree(path)
    dataset, options = pairs(ending, backend, **{f'at_{COUNT - 2}': (100, 179)})
    with pytest.raises(DynqError, match=rf'{COUNT - 2}.*at scale 2 GT must be 358x200'):
        check(dataset, options)


def test_only_the_first_bytes_are_read_where_they_tell(pairs, monkeypatch):
    dataset, options = pairs()
    read, plain = [], sizes.read_file
    monkeypatch.setattr(sizes, 'read_file', lambda *given: read.append(plain(*given)) or read[-1])
    check(dataset, options)
    whole = [content for content in read if content.endswith(b'IEND\xaeB`\x82')]
    assert len(read) == 2 * COUNT
    assert sum(len(content) == sizes.HEAD for content in read) >= COUNT - WHOLE  # of the large ones
    assert all(len(content) <= sizes.HEAD for content in read[2 * WHOLE :]) and len(whole) >= 2 * WHOLE


def test_what_does_not_fit_by_its_first_bytes_is_read_whole_before_it_is_refused(pairs, tmp_path):
    dataset, options = pairs('.jpg')
    turned = cv2.imencode('.jpg', cv2.rotate(PHOTO[:100, :180], cv2.ROTATE_90_CLOCKWISE))[1].tobytes()
    exif = b'Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0\0\0\0\0'
    for thumbnail in (0, 70_000):  # the second does not fit into the head
        filler = b''.join(b'\xff\xe2' + (35_000).to_bytes(2, 'big') + bytes(34_998) for _ in range(thumbnail // 35_000))
        segment = b'\xff\xe1' + (len(exif) + 2).to_bytes(2, 'big') + exif
        content = turned[:2] + filler + segment + turned[2:]
        (tmp_path / 'LQ' / f'{COUNT - 1}.jpg').write_bytes(content)
        assert peek_size(content[: sizes.HEAD]) == (None if thumbnail else (180, 100))
        assert check(dataset, options)[0] == 0


def test_a_slow_disk_leaves_some_for_later_and_says_how_many(pairs):
    dataset, options = pairs()
    left_out, seen = check(dataset, options, seconds=0)
    assert left_out == COUNT - WHOLE and len(seen) == WHOLE


def test_no_head_is_too_short():
    for ending in ('.png', '.jpg'):
        content = cv2.imencode(ending, PHOTO[:100, :180])[1].tobytes()
        found = [peek_size(content[:length]) for length in range(1000)]
        assert set(found) == {None, (180, 100)} and found[0] is None and found[-1]
