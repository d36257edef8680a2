"""Manifests that are missing, damaged, or of another version."""

import os
import subprocess
import sys

import pytest

from dynq_basicsr.atomic import temporary_beside
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.manifest import Manifest


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


@pytest.mark.parametrize('version', [0, 1, 3, '2', 2.0, True, None])
def test_another_format(model, version):
    model.write(format=version)
    with pytest.raises(DynqError, match=f'format of the model folder is {version!r}, this version reads 2'):
        Manifest.load(model.folder)


@pytest.mark.parametrize('text', ['[]', '7', 'null'])
def test_json_that_is_no_manifest(tmp_path, text):
    (tmp_path / 'manifest.json').write_text(text)
    with pytest.raises(DynqError, match='format of the model folder is None'):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'scale': 0}, 'scale: must be a whole number from 1 to 16'),
        ({'scale': 10**9}, 'scale: must be a whole number from 1 to 16'),
        ({'scale': True}, 'scale: must be a whole number'),
        ({'size': {'multiple': 1e9, 'least': 1}}, 'size.multiple: must be a whole number from 1 to 1024'),
        ({'size': {'multiple': 1, 'least': 10**9}}, 'size.least: must be a whole number from 1 to 4096'),
        ({'size': {'multiple': 1}}, "'least' is missing"),
        ({'size': {'multiple': 1.5, 'least': 1}}, 'size.multiple'),
        ({'channels': 4}, 'channels must be 1 or 3'),
        ({'graphs': ['low']}, 'the manifest is incomplete'),
        ({'graphs': {'low': {'file': '../low.onnx', 'sha256': ''}}}, 'is no file of this folder'),
        ({'graphs': {'low': {'file': 'low.onnx', 'sha256': '0' * 63, 'bytes': 1}}}, 'sha256 is'),
        ({'graphs': {'low': {'file': 'low.onnx', 'sha256': '0' * 64, 'bytes': 2**40}}}, 'low.onnx: bytes: must be'),
        ({'graphs': {'low': {'file': 'low.onnx', 'sha256': '0' * 64}}}, "'bytes' is missing"),
        ({'graphs': {}}, 'no policy or no graphs'),
        ({'policy': 7}, 'no policy or no graphs'),
        ({'tiling': {'patch_size': -1}}, 'patch_size'),
        ({'tiling': {'patch_batch': 10**9}}, 'patch_batch'),
    ],
)
def test_values_that_cannot_be(model, changes, message):
    model.write(**changes)
    with pytest.raises(DynqError, match=message):
        Manifest.load(model.folder)


def test_a_value_that_was_edited_is_told(model):
    path = model.folder / 'manifest.json'
    path.write_text(path.read_text().replace('20.0', '21.0'))
    with pytest.raises(DynqError, match='the manifest is damaged or was edited'):
        Manifest.load(model.folder)
    path.write_text(path.read_text().replace('21.0', '20.0').replace(', ', ',\n'))  # layout is no value
    assert Manifest.load(model.folder).policy['thresholds'] == [8.0, 20.0]


@pytest.mark.parametrize('content', [b'', b'other', b'x' * 10**6])
def test_a_graph_that_was_changed(model, content):
    (model.folder / 'low.onnx').write_bytes(content)
    with pytest.raises(DynqError, match=r'low\.onnx: the graph is cut off or was edited'):
        Manifest.load(model.folder).graphs['low'].read()


def test_an_export_that_was_killed_while_it_replaced_the_folder(model):
    child = subprocess.Popen([sys.executable, '-c', ''])
    child.wait()
    aside = temporary_beside(model.folder).name.replace(f'.{os.getpid()}-', f'.{child.pid}-').replace('.tmp', '.old')
    model.folder.rename(model.folder.with_name(aside))
    assert Manifest.load(model.folder).scale == 2
