"""Damaged manifests: a sentence, or the same model; altered ones with a right checksum: a sentence, or sense."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.runtime.decide import build_policy
from dynq_basicsr.runtime.manifest import FORMAT, LARGEST, Manifest, sealed
from tests.fuzz.mutations import altered, damaged

GRAPH = {'file': 'network.onnx', 'sha256': '0' * 64, 'bytes': 10}
CODE = {'fab': 4.0, 'grids': {'body.0': {'scale': 0.125, 'zero_point': 7, 'top': 15}}}
ADABM = {
    'format': FORMAT, 'scale': 4, 'channels': 3, 'size': {'multiple': 8, 'least': 16}, 'controller': None,
    'network': GRAPH, 'shared': {**GRAPH, 'file': 'shared.onnx'},
    'qdq': {**GRAPH, 'file': 'network.qdq.onnx'}, 'codes': {'a4': CODE, 'a5': CODE, 'a6': CODE},
    'policy': {'type': 'image_complexity', 'thresholds': [8.5, 20.25], 'codes': ['a4', 'a5', 'a6']},
    'tiling': {'patch_size': 96, 'patch_step': 94, 'patch_merge': 'split'}, 'expected': {'Set5': {'psnr': 32.1}},
}  # fmt: skip
GRANULAR = {**ADABM, 'controller': GRAPH, 'policy': {
    'type': 'granularity_entropy', 'choices': [4, 5, 6], 'entropy_bits': [4, 6], 'thresholds': [1.5],
    'codes': {'4': 'a4', '5': 'a5', '6': 'a6'},
}}  # fmt: skip


def load(folder):
    """What a run takes from a model folder before it opens the graphs."""
    manifest = Manifest.load(folder)
    controller = manifest.controller and (lambda x: np.float32([[0, 1, 0]]))
    try:
        policy = build_policy(manifest.policy, manifest.assignments, controller)
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # as the router tells it
        raise DynqError(f'incomplete ({error})') from error
    return manifest, policy


@pytest.fixture(params=[ADABM, GRANULAR], ids=['AdaBM', 'Granular-DQ'])
def values(request):
    """A manifest."""
    return sealed(request.param)


def test_no_damage_passes(tmp_path, values):
    path = tmp_path / 'manifest.json'
    whole = json.dumps(values, indent=2).encode()
    path.write_bytes(whole)
    expected, refused = load(tmp_path)[0], 0
    for case in damaged(whole, range(1500)):
        path.write_bytes(case)
        try:
            assert load(tmp_path)[0] == expected
        except DynqError as error:
            refused += 1
            assert '\n' not in str(error) and len(str(error)) < 600
    assert refused > 1000  # the rest lies between values


def test_altered_values_are_refused_or_make_sense(tmp_path, values):
    path, refused = tmp_path / 'manifest.json', 0
    for seed in range(1500):
        try:
            path.write_text(json.dumps(sealed(altered(values, seed))), encoding='utf-8')
        except (TypeError, ValueError):  # no JSON, so nobody wrote it
            continue
        try:
            manifest, policy = load(tmp_path)
            code = policy(np.zeros((3, 8, 8), np.float32), np.zeros((3, 8, 8), np.float32))
        except DynqError as error:
            refused += 1
            assert '\n' not in str(error) and len(str(error)) < 600
            continue
        sizes = {'scale': manifest.scale, 'size.multiple': manifest.multiple, 'size.least': manifest.least}
        assert all(1 <= sizes[key] <= LARGEST[key] and type(sizes[key]) is int for key in LARGEST)
        graphs = [one for one in (manifest.network, manifest.qdq, manifest.controller) if one]
        assert all(graph.path.parent == tmp_path for graph in graphs)
        grids = [grid for one in manifest.assignments.values() for grid in one.grids.values()]
        assert all(0 <= grid.zero_point <= grid.top <= 255 and 0 < grid.scale < math.inf for grid in grids)
        thresholds = manifest.policy.get('thresholds') or []
        assert thresholds == sorted(thresholds) and all(map(math.isfinite, thresholds))
        assert code in manifest.assignments
    assert refused > 500


@pytest.mark.parametrize(
    'text, reason',
    [
        ('[' * 100_000 + ']' * 100_000, 'nested too deeply'),
        ('{"format": 3, "format": 3}', 'given twice'),
        ('{"format": NaN}', 'NaN is no number'),
        ('{"format": -Infinity}', 'no number'),
        ('{"format": 1e999}', 'too large'),
        (f'{{"format": {"9" * 5000}}}', 'damaged'),
        ('{"format": 3' + ' ' * 2**24 + '}', 'too large'),
    ],
)
def test_json_that_harms(tmp_path, text, reason):
    (tmp_path / 'manifest.json').write_text(text, encoding='utf-8')
    with pytest.raises(DynqError, match=reason):
        Manifest.load(tmp_path)
