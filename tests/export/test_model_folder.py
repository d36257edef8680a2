"""A model folder is there whole, or what was there before is."""

import hashlib
import json
import re
import shutil
import subprocess

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.model_folder import add_to_folder, check_target, writing_folder
from dynq_basicsr.runtime.manifest import sealed


def write(target, content=b'graph'):
    with writing_folder(target) as writer:
        entry = writer.add('a4.onnx', content)
        writer.finish({'network': entry})
    return entry


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder(tmp_path):
    entry = write(tmp_path / 'below' / 'model')
    assert entry == {'file': 'a4.onnx', 'sha256': hashlib.sha256(b'graph').hexdigest(), 'bytes': 5}
    assert (tmp_path / 'below/model/a4.onnx').read_bytes() == b'graph'
    text = (tmp_path / 'below/model/manifest.json').read_text(encoding='utf-8')
    assert json.loads(text) == sealed({'format': 3, 'network': entry})
    assert [path.name for path in (tmp_path / 'below').iterdir()] == ['model']


def test_an_empty_folder_is_taken_and_a_model_replaced_whole(tmp_path):
    (tmp_path / 'model').mkdir()
    write(tmp_path / 'model')
    write(tmp_path / 'model', b'another')
    assert names(tmp_path / 'model') == ['a4.onnx', 'dynq.sha256', 'manifest.json']
    assert (tmp_path / 'model/a4.onnx').read_bytes() == b'another'


@pytest.mark.parametrize('error', [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there(tmp_path, error):
    write(tmp_path / 'model')
    with pytest.raises(error), writing_folder(tmp_path / 'model') as writer:
        writer.add('a4.onnx', b'half')
        raise error
    assert (tmp_path / 'model/a4.onnx').read_bytes() == b'graph'
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_other_things_are_not_touched(tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.png').touch()
    with pytest.raises(DynqError, match=r'photos: holds a\.png, but is no model folder'):
        write(tmp_path / 'photos')
    with pytest.raises(DynqError, match=r'a\.png: is a file'):
        write(tmp_path / 'photos' / 'a.png')
    assert names(tmp_path / 'photos') == ['a.png']


@pytest.mark.parametrize('name', ['manifest.json', 'quantized.pth', 'dynq.sha256'])
@pytest.mark.parametrize('content', ['', '{}', 'a list of mine\n'])
def test_a_name_of_ours_makes_no_folder_ours(tmp_path, name, content):
    (tmp_path / 'project').mkdir()
    (tmp_path / 'project' / 'thesis.txt').write_text('years')
    (tmp_path / 'project' / name).write_text(content)
    with pytest.raises(DynqError, match='holds .* may be replaced'):
        write(tmp_path / 'project')
    assert (tmp_path / 'project/thesis.txt').read_text() == 'years'


@pytest.mark.parametrize('path', ['experiments/q/models/net_g_5.pth', 'notes.txt', 'results/a.png', '.git/HEAD'])
def test_what_was_put_into_a_model_is_refused_by_name(tmp_path, path):
    write(tmp_path / 'model')
    mine = tmp_path / 'model' / path
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text('mine')
    before = (tmp_path / 'model/manifest.json').read_bytes()
    with pytest.raises(DynqError, match=f'holds {re.escape(path.partition("/")[0])}, which was not written'):
        write(tmp_path / 'model', b'another')
    assert mine.read_text() == 'mine' and (tmp_path / 'model/manifest.json').read_bytes() == before


def test_what_was_changed_in_a_model_is_refused_by_name(tmp_path):
    write(tmp_path / 'model')
    (tmp_path / 'model/a4.onnx').write_bytes(b'graqh')
    with pytest.raises(DynqError, match=r'a4\.onnx was changed'):
        write(tmp_path / 'model')
    (tmp_path / 'model/a4.onnx').unlink()
    (tmp_path / 'model/a4.onnx').mkdir()
    with pytest.raises(DynqError, match=r'a4\.onnx was changed'):
        write(tmp_path / 'model')


def test_half_a_model_and_what_file_managers_leave_may_be_replaced(tmp_path):
    write(tmp_path / 'model')
    (tmp_path / 'model/a4.onnx').unlink()
    (tmp_path / 'model/.DS_Store').touch()
    write(tmp_path / 'model')
    assert names(tmp_path / 'model') == ['a4.onnx', 'dynq.sha256', 'manifest.json']


def test_what_is_put_there_meanwhile_stays(tmp_path):
    write(tmp_path / 'model')
    with pytest.raises(DynqError, match=r'holds notes\.txt'), writing_folder(tmp_path / 'model') as writer:
        writer.add('a4.onnx', b'another')
        (tmp_path / 'model/notes.txt').write_text('mine')
    assert names(tmp_path / 'model') == ['a4.onnx', 'dynq.sha256', 'manifest.json', 'notes.txt']
    assert names(tmp_path) == ['model']


def test_a_link_stays_and_what_it_leads_to_is_written(tmp_path):
    (tmp_path / 'link').symlink_to(tmp_path / 'disk' / 'model', target_is_directory=True)
    for content in (b'first', b'again'):
        write(tmp_path / 'link', content)
        assert (tmp_path / 'disk/model/a4.onnx').read_bytes() == content and (tmp_path / 'link').is_symlink()
    assert names(tmp_path / 'disk') == ['model']
    (tmp_path / 'disk/model/notes.txt').touch()
    with pytest.raises(DynqError, match=r'holds notes\.txt'):
        write(tmp_path / 'link')


@pytest.mark.skipif(not shutil.which('sha256sum'), reason='this system has no sha256sum')
def test_a_file_that_is_added_later_is_replaced_with_the_model(tmp_path):
    write(tmp_path)
    for content in (b'one', b'two'):
        add_to_folder(tmp_path, 'report.html', content)
        check_target(tmp_path)
    assert (tmp_path / 'report.html').read_bytes() == b'two'
    write(tmp_path)
    assert 'report.html' not in names(tmp_path)


def test_the_list_is_one_for_sha256sum(tmp_path):
    write(tmp_path / 'model')
    subprocess.run(['sha256sum', '-c', '--strict', 'dynq.sha256'], cwd=tmp_path / 'model', check=True)
