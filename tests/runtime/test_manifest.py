"""Manifests that are missing, damaged, or of another version."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from dynq_basicsr.atomic import temporary_beside
from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.grids import Grid
from dynq_basicsr.runtime.manifest import Assignment, Manifest

GRID = {'scale': 0.25, 'zero_point': 3, 'top': 15}


def test_it_is_read(model):
    model.write(size={'multiple': 8, 'least': 16})
    manifest = Manifest.load(model.folder)
    assert (manifest.scale, manifest.channels, manifest.multiple, manifest.least) == (2, 3, 8, 16)
    assert list(manifest.assignments) == ['high', 'low', 'mid'] and manifest.controller is manifest.qdq is None
    assert manifest.network.read() == (model.folder / 'network.onnx').read_bytes()
    assert manifest.assignments['mid'] == Assignment({'body': Grid(np.float32(0.5), 0, 2)}, 4.0)
    assert manifest.tiling.patch_size == 24


def test_files_that_share_an_end(model):
    """Each is read as a whole, and both parts are checked."""
    path = model.folder / 'network.onnx'
    first, end = path.read_bytes()[:100], path.read_bytes()[100:]
    entries = {}
    for name, content in (('network', first), ('shared', end)):
        (model.folder / f'{name}.onnx').write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entries[name] = {'file': f'{name}.onnx', 'sha256': digest, 'bytes': len(content)}
    model.write(**entries, qdq=entries['network'])
    manifest = Manifest.load(model.folder)
    assert manifest.network.read() == manifest.qdq.read() == first + end
    (model.folder / 'shared.onnx').write_bytes(end[:-1] + b'?')
    with pytest.raises(DynqError, match=r'shared\.onnx: the graph is cut off or was edited'):
        manifest.network.read()


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


@pytest.mark.parametrize('version', [0, 2, 4, '3', 3.0, True, None])
def test_another_format(model, version):
    model.write(format=version)
    with pytest.raises(DynqError, match=f'format of the model folder is {version!r}, this version reads 3'):
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
        ({'network': ['low']}, 'the manifest is incomplete'),
        ({'network': {'file': '../low.onnx', 'sha256': ''}}, 'is no file of this folder'),
        ({'network': {'file': 'low.onnx', 'sha256': '0' * 63, 'bytes': 1}}, 'sha256 is'),
        ({'network': {'file': 'low.onnx', 'sha256': '0' * 64, 'bytes': 2**40}}, 'low.onnx: bytes: must be'),
        ({'network': {'file': 'low.onnx', 'sha256': '0' * 64}}, "'bytes' is missing"),
        ({'qdq': {'file': '/low.onnx', 'sha256': '0' * 64, 'bytes': 1}}, 'is no file of this folder'),
        ({'codes': {}}, 'no policy or no codes'),
        ({'codes': ['low']}, 'the manifest is incomplete'),
        ({'codes': {'low': {'grids': {}, 'fab': 33}}}, "'low': fab: must be a number from 0 to 32"),
        ({'codes': {'low': {'grids': ['body']}}}, 'the manifest is incomplete'),
        ({'codes': {'low': {'grids': {'body': {**GRID, 'scale': 0}}}}}, "'low': 'body': scale must be above 0"),
        ({'codes': {'low': {'grids': {'body': {**GRID, 'scale': 1e-60}}}}}, "'low': 'body': scale must be above 0"),
        ({'codes': {'low': {'grids': {'body': {**GRID, 'scale': -1.0}}}}}, "'body': scale: must be a number from 0"),
        ({'codes': {'low': {'grids': {'body': {**GRID, 'scale': 1e39}}}}}, "'body': scale: must be a number from 0"),
        ({'codes': {'low': {'grids': {'body': {**GRID, 'top': 256}}}}}, "'body': top: must be a whole number from 1"),
        ({'codes': {'low': {'grids': {'body': {**GRID, 'top': 0}}}}}, "'body': top: must be a whole number from 1"),
        ({'codes': {'low': {'grids': {'body': {**GRID, 'zero_point': 16}}}}}, "zero_point: .* from 0 to 15"),
        ({'codes': {'low': {'grids': {'body': {'scale': 1.0, 'top': 15}}}}}, "'zero_point' is missing"),
        ({'codes': {'low': {'grids': {'body': GRID}}, 'mid': {'grids': {}}}}, 'grids of different layers'),
        ({'policy': 7}, 'no policy or no codes'),
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
    (model.folder / 'network.onnx').write_bytes(content)
    with pytest.raises(DynqError, match=r'network\.onnx: the graph is cut off or was edited'):
        Manifest.load(model.folder).network.read()


def test_an_export_that_was_killed_while_it_replaced_the_folder(model):
    child = subprocess.Popen([sys.executable, '-c', ''])
    child.wait()
    aside = temporary_beside(model.folder).name.replace(f'.{os.getpid()}-', f'.{child.pid}-').replace('.tmp', '.old')
    model.folder.rename(model.folder.with_name(aside))
    assert Manifest.load(model.folder).scale == 2
