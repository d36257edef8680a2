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
from dynq_basicsr.runtime import sessions
from dynq_basicsr.runtime.manifest import Manifest
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


@pytest.mark.parametrize('runtime, file', [('onnxruntime', 'network.onnx'), ('openvino', 'network.qdq.onnx')])
def test_other_runtimes_than_onnx_runtime_get_the_portable_graph(model, monkeypatch, runtime, file):
    (model.folder / 'network.qdq.onnx').write_bytes((model.folder / 'network.onnx').read_bytes())
    model.write(qdq=model.manifest['network'] | {'file': 'network.qdq.onnx'})
    opened = []
    monkeypatch.setattr('dynq_basicsr.runtime.router.open_sessions', lambda content, *rest: opened.append(rest[:2]))
    Router(model.folder, RunOptions(runtime=runtime))
    grids = {code: one.grids for code, one in Manifest.load(model.folder).assignments.items()}
    assert opened == [(str(model.folder / file), grids)] and list(grids) == sorted(model.networks)


def test_a_folder_without_the_portable_graph_tells_how_to_get_it(model):
    with pytest.raises(DynqError, match=r'not for openvino; export it again with `dynq export --qdq`\.$'):
        Router(model.folder, RunOptions(runtime='openvino'))


def test_openvino_runs_every_code(model, photo):
    pytest.importorskip('openvino', reason='openvino is not installed')
    model.write(qdq=model.manifest['network'])
    image, codes = photo(48, 130), set()
    router = Router(model.folder, RunOptions(runtime='openvino'))
    found = router.upscale(image, report=lambda code, count: codes.add(code))
    assert codes == set(model.networks)
    np.testing.assert_array_equal(found, Router(model.folder).upscale(image))


def test_weights_are_in_memory_once(model, monkeypatch):
    made = []
    session = sessions.onnxruntime_session
    monkeypatch.setattr(sessions, 'onnxruntime_session', lambda *args: made.append(args) or session(*args))
    Router(model.folder)
    assert len(made) == 1


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
    for network in model.networks.values():
        network.weight.fill_(float('inf'))
    resave(model)
    with pytest.raises(GraphError, match='NaN or infinity'):
        Router(model.folder).upscale(photo(30, 30))


@pytest.mark.parametrize('what', ['cut off', 'edited', 'missing'])
def test_graphs_that_are_not_those_of_the_manifest(model, what):
    path = model.folder / 'network.onnx'
    content = path.read_bytes()
    if what == 'missing':
        path.unlink()
    else:
        path.write_bytes(content[:-9] if what == 'cut off' else content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DynqError, match=r'network\.onnx: the graph is (missing|cut off or was edited)'):
        Router(model.folder)


def test_a_graph_that_the_runtime_does_not_take(model):
    import hashlib

    (model.folder / 'network.onnx').write_bytes(b'no graph')
    digest = hashlib.sha256(b'no graph').hexdigest()
    model.write(network={'file': 'network.onnx', 'sha256': digest, 'bytes': 8})
    with pytest.raises(DynqError, match=r'network\.onnx: onnxruntime does not take the graph'):
        Router(model.folder)


@pytest.mark.parametrize('runtime', ['onnxruntime', 'openvino'])
def test_a_graph_that_wants_other_grids(model, runtime):
    pytest.importorskip(runtime)
    model.write(qdq=model.manifest['network'])
    grids = {'head': {'scale': 0.5, 'zero_point': 0, 'top': 3}}
    model.write(codes={code: {'grids': grids} for code in model.networks})
    with pytest.raises(DynqError, match=rf'network\.onnx: {runtime} does not take the graph .*top of body'):
        Router(model.folder, RunOptions(runtime=runtime))


def test_a_policy_without_its_parts_names_the_folder(model):
    model.write(policy={'type': 'fixed'})
    with pytest.raises(DynqError, match="model: the policy is incomplete .'code'"):
        Router(model.folder)
