"""Which files are taken, which are named, and which results count as there."""

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.image_files import is_done, pictures_skipped, plan_jobs, words_for


def test_pictures_of_other_formats_are_counted(tmp_path):
    for name in ('a.png', 'b.AVIF', 'c.avif', 'd.ppm', 'e.txt', '.f.gif', 'below/g.heic', 'h.jfif'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert words_for(pictures_skipped([tmp_path], recursive=False)) == '2 .avif, 1 .ppm'
    assert words_for(pictures_skipped([tmp_path, tmp_path / 'd.ppm'], recursive=True)) == '2 .avif, 1 .heic, 1 .ppm'
    jobs = plan_jobs([tmp_path], tmp_path / 'out', 'same', '_x4')
    assert [job.target.name for job in jobs] == ['a_x4.png', 'h_x4.jfif']


def test_a_folder_of_other_formats_alone(tmp_path):
    (tmp_path / 'a.gif').touch()
    with pytest.raises(DynqError, match=r'holds no images .*, but 1 \.gif: convert them to png; --recursive looks'):
        plan_jobs([tmp_path], tmp_path / 'out', 'png', '')


def test_results_that_are_there(tmp_path):
    (tmp_path / 'empty.png').touch()
    (tmp_path / 'full.png').write_bytes(b'x')
    (tmp_path / 'folder.png').mkdir()
    assert not is_done(tmp_path / 'none.png') and not is_done(tmp_path / 'empty.png') and is_done(tmp_path / 'full.png')
    with pytest.raises(DynqError, match=r'folder\.png: is a folder, where the result is to be; remove it'):
        is_done(tmp_path / 'folder.png')
