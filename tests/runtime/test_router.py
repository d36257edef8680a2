"""The router against patch-wise evaluation in PyTorch, with the same networks and the same policies."""

import numpy as np
import pytest
import torch

from dynq_basicsr.archs.padding import SizeRequirement, run_padded
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.arrays import cut
from dynq_basicsr.imaging.bicubic import enlarge
from dynq_basicsr.imaging.complexity import gradient_density
from dynq_basicsr.models.tiling import TilingOptions, run_tiled
from dynq_basicsr.policies import complexity
from dynq_basicsr.runtime.router import FLAT, GraphError, Router, RunOptions


def evaluate(model, image, tiling, sizes=None):
    """What PyTorch makes of it, with AdaBM's thresholds of the fixture."""
    codes = list(model.networks)

    def run(patches, indices):
        assert len(indices) == len(patches)
        results = []
        for patch in patches.split(1):
            density = complexity.gradient_density(patch).item()
            network = model.networks[codes[(density >= 8) + (density > 20)]]
            results.append(run_padded(network, patch, sizes or SizeRequirement()))
        return torch.cat(results)

    batch = torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))[None]
    result = run_tiled(batch, tiling, run)
    return result[0].mul(255).clamp(0, 255).round().byte().numpy().transpose(1, 2, 0)


@pytest.mark.parametrize('height, width', [(100, 130), (24, 24), (7, 150), (300, 9), (1, 1), (47, 49), (71, 71)])
@pytest.mark.parametrize('step, merge', [(24, 'average'), (20, 'split'), (24, 'split')])
def test_result_equals_evaluation_in_pytorch(model, photo, height, width, step, merge):
    tiling = TilingOptions(24, step, 3, merge)
    image, reports = photo(height, width), []
    router = Router(model.folder, RunOptions(tiling=tiling))
    found = router.upscale(image, report=lambda *what: reports.append(what))
    np.testing.assert_array_equal(found, evaluate(model, image, tiling))
    assert sum(count for _, count in reports) == len(router.boxes(image))
    assert all(1 <= count <= 3 for _, count in reports)
    assert width < 100 or {code for code, _ in reports} == {'low', 'mid', 'high'}


def test_averaged_overlaps_equal_pytorch_but_for_ties(model, photo):
    tiling, image = TilingOptions(24, 16), photo(60, 90)
    found = Router(model.folder, RunOptions(tiling=tiling)).upscale(image).astype(int)
    expected = evaluate(model, image, tiling).astype(int)
    covers = np.ones((60, 90), int)
    for box in Router(model.folder, RunOptions(tiling=tiling)).boxes(image):
        covers[box[0] : box[2], box[1] : box[3]] += 1
    assert np.abs(found - expected).max() <= 1
    differs = (found != expected).any(axis=2)
    # the mean of two or four whole numbers may end in a half, of one it cannot
    assert not differs[(covers == 2).repeat(2, 0).repeat(2, 1)].any() and differs.mean() < 0.3


@pytest.mark.parametrize('runtime, end', [('onnxruntime', '.onnx'), ('openvino', '.qdq.onnx')])
def test_other_runtimes_than_onnx_runtime_get_the_portable_graphs(model, monkeypatch, runtime, end):
    for code, entry in model.manifest['graphs'].items():
        content = (model.folder / entry['file']).read_bytes()
        (model.folder / f'{code}.qdq.onnx').write_bytes(content)
        entry['qdq'] = {'file': f'{code}.qdq.onnx', 'sha256': entry['sha256'], 'bytes': entry['bytes']}
    model.write()
    opened = []
    monkeypatch.setattr('dynq_basicsr.runtime.router.open_session', lambda content, name, *rest: opened.append(name))
    Router(model.folder, RunOptions(runtime=runtime))
    assert sorted(opened) == sorted(str(model.folder / f'{code}{end}') for code in model.networks)


@pytest.mark.parametrize('multiple, least', [(8, 1), (1, 32), (7, 30)])
def test_windows_are_padded_as_in_pytorch(model, photo, multiple, least):
    model.write(size={'multiple': multiple, 'least': least})
    tiling, image = TilingOptions(24, 24), photo(61, 50)
    found = Router(model.folder, RunOptions(tiling=tiling)).upscale(image)
    np.testing.assert_array_equal(found, evaluate(model, image, tiling, SizeRequirement(multiple, least)))


@pytest.mark.parametrize('batch', [1, 2, 64])
def test_the_size_of_batches_changes_nothing(model, photo, batch):
    image = photo(110, 120)
    one, other = (Router(model.folder, RunOptions(batch=size)) for size in (4, batch))
    np.testing.assert_array_equal(one.upscale(image), other.upscale(image))
    assert other.tiling.patch_batch == batch and other.tiling.patch_size == 24 and other.network_seconds > 0


def test_the_controller_chooses(model, photo):
    model.add_controller()
    codes = {'4': 'low', '6': 'mid', '8': 'high'}
    model.write(policy={'type': 'granularity_entropy', 'choices': [4, 6, 8], 'entropy_bits': [], 'thresholds': [],
                        'codes': codes})  # fmt: skip
    image = photo(24, 72)
    for channel in range(3):
        image[:, 24 * channel : 24 * (channel + 1), channel] = 255
    reports = []
    Router(model.folder, RunOptions(batch=1)).upscale(image, report=lambda *what: reports.append(what))
    assert reports == [('low', 1), ('mid', 1), ('high', 1)]


def test_flat_patches_take_the_cheaper_tier(model, photo):
    image, threshold, reports = photo(48, 120), 15.0, []
    router = Router(model.folder, RunOptions(flat_threshold=threshold))
    found = router.upscale(image, report=lambda *what: reports.append(what))
    plain = Router(model.folder).upscale(image)
    flat = 0
    for box in router.boxes(image):
        top, left, bottom, right = (2 * side for side in box)
        if gradient_density(cut(image, box)) < threshold:
            expected = np.clip(np.rint(enlarge(image, box, 2)), 0, 255).transpose(1, 2, 0)
            assert np.abs(found[top:bottom, left:right] - expected).max() <= 1  # ties: 255 / 255 is no exact 1
            flat += 1
        else:
            np.testing.assert_array_equal(found[top:bottom, left:right], plain[top:bottom, left:right])
    assert 0 < flat < len(router.boxes(image)) and sum(count for code, count in reports if code == FLAT) == flat


def test_sixteen_bits(model, photo):
    image = photo(50, 60)
    router = Router(model.folder)
    deep = router.upscale(image.astype(np.uint16) * 257)
    assert deep.dtype == np.uint16
    np.testing.assert_array_equal(np.rint(deep / 257), router.upscale(image))
    np.testing.assert_array_equal(router.upscale(image.astype(np.uint16) * 257, 255), router.upscale(image))


def test_a_graph_of_another_scale(model, photo):
    model.write(scale=4)
    with pytest.raises(GraphError, match=r'\.onnx: the graph made .* but the manifest says scale 4'):
        Router(model.folder).upscale(photo(30, 30))


def test_infinite_results(model, photo, resave):
    for code, network in model.networks.items():
        network.weight.fill_(float('inf'))
        resave(model, code)
    with pytest.raises(GraphError, match='NaN or infinity'):
        Router(model.folder).upscale(photo(30, 30))


@pytest.mark.parametrize('what', ['cut off', 'edited', 'missing'])
def test_graphs_that_are_not_those_of_the_manifest(model, what):
    path = model.folder / 'mid.onnx'
    content = path.read_bytes()
    if what == 'missing':
        path.unlink()
    else:
        path.write_bytes(content[:-9] if what == 'cut off' else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DynqError, match=r'mid\.onnx: the graph is (missing|cut off or was edited)'):
        Router(model.folder)


def test_a_graph_that_the_runtime_does_not_take(model):
    import hashlib

    (model.folder / 'mid.onnx').write_bytes(b'no graph')
    model.manifest['graphs']['mid'] |= {'sha256': hashlib.sha256(b'no graph').hexdigest(), 'bytes': 8}
    model.write()
    with pytest.raises(DynqError, match=r'mid\.onnx: onnxruntime does not take the graph'):
        Router(model.folder)


def test_a_policy_without_its_parts_names_the_folder(model):
    model.write(policy={'type': 'fixed'})
    with pytest.raises(DynqError, match="model: the policy is incomplete .'code'"):
        Router(model.folder)
