"""Manifests that are missing, damaged, or of another version."""

import pytest

from dynq_basicsr.deploy.manifest import Manifest
from dynq_basicsr.errors import DynqError


def test_it_is_read(model):
    model.write(size={'multiple': 8, 'least': 16})
    manifest = Manifest.load(model.folder)
    assert (manifest.scale, manifest.channels, manifest.multiple, manifest.least) == (2, 3, 8, 16)
    assert list(manifest.graphs) == ['high', 'low', 'mid'] and manifest.controller is None
    assert manifest.graphs['low'].read() == (model.folder / 'low.onnx').read_bytes()
    assert manifest.graphs['low'].fab == 4.0 and manifest.tiling.patch_size == 24


def test_no_folder_and_no_manifest(tmp_path):
    with pytest.raises(DynqError, match='there is no folder'):
        Manifest.load(tmp_path / 'nowhere')
    with pytest.raises(DynqError, match='is no model folder, or its export did not finish'):
        Manifest.load(tmp_path)


@pytest.mark.parametrize('text', ['', '{"format": 1', '\\xff'])
def test_no_json(tmp_path, text):
    (tmp_path / 'manifest.json').write_bytes(text.encode('latin-1'))
    with pytest.raises(DynqError, match='the manifest is damaged'):
        Manifest.load(tmp_path)


@pytest.mark.parametrize('version', [0, 2, '1', None])
def test_another_format(model, version):
    model.write(format=version)
    with pytest.raises(DynqError, match=f'format of the model folder is {version!r}, this version reads 1'):
        Manifest.load(model.folder)


@pytest.mark.parametrize('text', ['[]', '7', 'null'])
def test_json_that_is_no_manifest(tmp_path, text):
    (tmp_path / 'manifest.json').write_text(text)
    with pytest.raises(DynqError, match='format of the model folder is None'):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'scale': 0}, 'scale: must be a whole number >= 1'),
        ({'size': {'multiple': 1}}, "'least' is missing"),
        ({'size': {'multiple': 1.5, 'least': 1}}, 'size.multiple'),
        ({'channels': 4}, 'channels must be 1 or 3'),
        ({'graphs': ['low']}, 'the manifest is incomplete'),
        ({'graphs': {'low': {'file': '../low.onnx', 'sha256': ''}}}, 'is no file of this folder'),
        ({'tiling': {'patch_size': -1}}, 'patch_size'),
    ],
)
def test_values_that_cannot_be(model, changes, message):
    model.write(**changes)
    with pytest.raises(DynqError, match=message):
        Manifest.load(model.folder)
