"""A model folder is there whole, or what was there before is."""

import hashlib
import json

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.export.model_folder import writing_folder
from dynq_basicsr.runtime.manifest import sealed


def write(target, content=b'graph'):
    with writing_folder(target) as writer:
        entry = writer.add('a4.onnx', content)
        writer.finish({'graphs': {'a4': entry}})
    return entry


def test_a_new_folder(tmp_path):
    entry = write(tmp_path / 'below' / 'model')
    assert entry == {'file': 'a4.onnx', 'sha256': hashlib.sha256(b'graph').hexdigest(), 'bytes': 5}
    assert (tmp_path / 'below/model/a4.onnx').read_bytes() == b'graph'
    text = (tmp_path / 'below/model/manifest.json').read_text(encoding='utf-8')
    assert json.loads(text) == sealed({'format': 2, 'graphs': {'a4': entry}})
    assert [path.name for path in (tmp_path / 'below').iterdir()] == ['model']


def test_an_empty_folder_is_taken_and_a_model_replaced_whole(tmp_path):
    (tmp_path / 'model').mkdir()
    write(tmp_path / 'model')
    (tmp_path / 'model' / 'a5.onnx').touch()
    write(tmp_path / 'model', b'another')
    assert sorted(path.name for path in (tmp_path / 'model').iterdir()) == ['a4.onnx', 'manifest.json']
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
    with pytest.raises(DynqError, match='photos: holds files, but no model'):
        write(tmp_path / 'photos')
    with pytest.raises(DynqError, match=r'a\.png: is a file'):
        write(tmp_path / 'photos' / 'a.png')
    assert [path.name for path in (tmp_path / 'photos').iterdir()] == ['a.png']
