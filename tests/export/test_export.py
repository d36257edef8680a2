"""``python -m dynq_basicsr.export``: folders of graphs that compute what PyTorch computes, integer by integer."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip('onnx', reason='the extra deploy is not installed')
onnxruntime = pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.cli import main  # noqa: E402
from dynq_basicsr.export.check import Agreement, agreement, run_at  # noqa: E402
from dynq_basicsr.export.flips import find_first_flips  # noqa: E402
from dynq_basicsr.export.frozen import bits_of, freeze_layer  # noqa: E402
from dynq_basicsr.models.patchwise_model import to_image  # noqa: E402
from dynq_basicsr.report.one_image import load_model  # noqa: E402
from dynq_basicsr.runtime.grids import inputs_of  # noqa: E402
from dynq_basicsr.runtime.manifest import Manifest  # noqa: E402
from dynq_basicsr.runtime.router import Router, RunOptions  # noqa: E402
from dynq_basicsr.runtime.sessions import open_sessions  # noqa: E402

# The farthest from the border of two integers that sums in another order move a quotient, in steps.
TIE = 1e-3
WINDOWS = {'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [2], 'num_heads': [2], 'embed_dim': 8,
           'mlp_ratio': 2}  # fmt: skip
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'upscale': 4}
GREY = {'type': 'MSRResNet', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_block': 2, 'upscale': 2}
SRRESNET = {'type': 'SRResNetBN', 'num_feat': 16, 'num_block': 2, 'upscale': 2}
RDN = {'type': 'RDN', 'num_feat': 8, 'num_block': 2, 'num_layer': 2, 'num_grow_ch': 4, 'upscale': 2}
IDN = {'type': 'IDN', 'num_feat': 16, 'upscale': 2, 'luma': True}
IMDN = {'type': 'IMDN', 'num_feat': 16, 'num_modules': 2, 'upscale': 2}
SWINIR = {'type': 'SwinIR', **WINDOWS, 'upsampler': 'pixelshuffledirect'}
HAT = {'type': 'HAT', **WINDOWS, 'compress_ratio': 2, 'squeeze_factor': 2}
RCAN = {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_group': 2, 'num_block': 2,
        'squeeze_factor': 4, 'upscale': 2}  # fmt: skip
COMPACT = {'type': 'Spandrel'}
ADABM, TWO = {'type': 'AdaBM'}, {'type': 'GranularDQ', 'granularity_bits': [4, 8], 'entropy_bits': None}
# backbone, bits of weights and activations, further options of quantization, policy
CASES = {
    'EDSR': (EDSR, 4, 4, {}, ADABM),
    'MSRResNet of grey, all of it': (GREY, 8, 8, {'quantizer': 'learned_step', 'scope': 'full'},
                                     {'type': 'GranularDQ'}),
    'EDSR with float activations': (EDSR, 4, 32, {'scope': 'full'}, None),
    'EDSR with float weights': (EDSR, 32, 4, {}, None),
    'SRResNet': (SRRESNET, 8, 6, {'quantizer': 'pams'}, None),
    'SRResNet, all of it': (SRRESNET, 4, 4, {'scope': 'full', 'granularity': 'channel', 'rounding': 'learned'}, ADABM),
    'RDN, all of it': (RDN, 4, 4, {'scope': 'full'}, ADABM),
    'IDN': (IDN, 8, 8, {'quantizer': 'pams'}, TWO),
    'IMDN': (IMDN, 4, 4, {}, None),
    'IMDN, all of it': (IMDN, 4, 4, {'scope': 'full'}, ADABM),
    'RCAN': (RCAN, 4, 4, {}, None),
    'Compact, of spandrel': (COMPACT, 8, 8, {}, ADABM),
    'SwinIR': (SWINIR, 8, 8, {'quantizer': 'learned_range'}, TWO),
    'HAT, all of it': (HAT, 4, 4, {'scope': 'full'}, None),
}  # fmt: skip


# What decides a rounding is summed exactly, in PyTorch as in the graph.
EXACT = ('EDSR', 'MSRResNet of grey, all of it', 'SRResNet', 'SRResNet, all of it', 'RDN, all of it', 'IDN', 'IMDN',
         'IMDN, all of it', 'RCAN', 'Compact, of spandrel')  # fmt: skip


@dataclass
class Export:
    """A model folder, and the PyTorch model that it was made from; whether both sum exactly."""

    folder: Path
    model: object
    exact: bool

    @property
    def net(self):
        return self.model.network.eval().to(memory_format=torch.contiguous_format)

    @property
    def codes(self) -> dict[str, tuple[float, ...]]:
        return self.net.policy.bit_configs()

    @property
    def manifest(self) -> Manifest:
        return Manifest.load(self.folder)

    def run(self, code: str, images: torch.Tensor) -> np.ndarray:
        manifest = self.manifest
        grids = {code: manifest.assignments[code].grids}
        return open_sessions(manifest.network.read(), code, grids)[code](images.numpy())

    def image(self, photo, as_batch, height: int, width: int) -> torch.Tensor:
        """(1, C, H, W) of sides that the network takes."""
        channels = self.manifest.channels
        return as_batch(photo(*(self.net.sizes.padded(side) for side in (height, width)), channels))


def save_compact(path: Path) -> str:
    torch.manual_seed(1)
    module = pytest.importorskip('spandrel.architectures.Compact', reason='the extra community is not installed')
    torch.save({'params': module.Compact(num_feat=8, num_conv=3, upscale=2).state_dict()}, path)
    return str(path)


@pytest.fixture(scope='module', params=CASES)
def exported(request, calibrated, tmp_path_factory) -> Export:
    backbone, weight, activation, options, policy = CASES[request.param]
    root = tmp_path_factory.mktemp('export')
    if backbone is HAT:
        pytest.importorskip('spandrel', reason='the extra community is not installed')
    elif backbone is COMPACT:
        backbone = backbone | {'path': save_compact(root / 'float.pth')}
    quantization = {
        'weight': {'bits': weight} | {key: options[key] for key in ('granularity', 'rounding') if key in options},
        'activation': {'bits': activation, 'quantizer': options.get('quantizer', 'range')},
        'scope': options.get('scope', 'body'),
    }
    net = calibrated(backbone, quantization, policy)
    for layer in net.quant_layers():
        if layer.weight_range.offset is not None:
            layer.weight_range.offset.data.uniform_(-0.4, 0.4)
    checkpoint, option_file = root / 'net.pth', root / 'test.yml'
    torch.save({'params': net.state_dict(), 'description': net.description}, checkpoint)
    option_file.write_text(yaml.safe_dump({
        'scale': 4 if backbone['type'] == 'EDSR' else 2, 'num_gpu': 0, 'network_g': {'type': 'QuantizedSR'}, 'path': {},
        'val': {'patch_size': 24, 'patch_step': 20, 'patch_merge': 'split'},
    }))  # fmt: skip
    arguments = ['-opt', option_file, '--checkpoint', checkpoint, '--out', root / 'model', '--qdq']
    assert main(['export', *map(str, arguments)]) == 0
    return Export(root / 'model', load_model(option_file, checkpoint), request.param in EXACT)


def assert_agreement(exported: Export, agreed: Agreement) -> None:
    if exported.exact:
        assert agreed.equal >= 0.999 and agreed.within_one == 1
    assert agreed.equal > 0.98 and agreed.within_one > 0.999


def test_the_folder_is_whole(exported):
    manifest, plain = exported.manifest, json.loads((exported.folder / 'manifest.json').read_text())
    assert set(manifest.assignments) == set(exported.codes) and manifest.multiple == exported.net.sizes.multiple
    for code, bits in exported.codes.items():
        assert manifest.assignments[code].fab == pytest.approx(sum(bits) / len(bits))
        for layer in exported.net.quant_layers():
            wanted = freeze_layer(layer, bits_of(layer, bits)).grid
            assert manifest.assignments[code].grids.get(layer.name) == wanted
    assert manifest.network.read() and manifest.qdq.read()
    assert (manifest.tiling.patch_size, manifest.tiling.step, manifest.tiling.patch_merge) == (24, 20, 'split')
    assert plain['scope'] == exported.net.quantization.scope and plain['network_g']['type'] == 'QuantizedSR'
    assert (manifest.controller is not None) == (getattr(exported.net.policy, 'controller', None) is not None)
    files = {path.name for path in exported.folder.iterdir()}
    written = {'network.onnx', 'network.qdq.onnx', 'shared.onnx', 'manifest.json', 'dynq.sha256'}
    assert files - {'controller.onnx'} == written


def test_every_integer_is_that_of_pytorch_but_for_ties(exported, photo, as_batch):
    image = exported.image(photo, as_batch, 24, 40)
    for code, bits in exported.codes.items():
        manifest = exported.manifest
        flips = find_first_flips(exported.net, bits, manifest.network.read(), manifest.assignments[code].grids, image)
        assert flips.distance < TIE and flips.count <= (0 if exported.exact else 1e-3 * flips.values), flips
        expected = run_at(exported.net, image, bits).numpy()
        result = exported.run(code, image)
        assert agreement(expected, result).within_one > 0.99
        # in scope full, integers behind a pixel shuffle are not compared: they lie in another order
        if not flips.count and exported.net.quantization.scope == 'body':
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('samples, height, width', [(1, 9, 57), (3, 41, 12)])
def test_any_size_and_number(exported, photo, as_batch, samples, height, width):
    image = exported.image(photo, as_batch, height, width)
    images = torch.cat([image, image.flip(2), image.flip(3)])[:samples]
    code, bits = list(exported.codes.items())[-1]
    result = exported.run(code, images)
    agreed = agreement(run_at(exported.net, images, bits).numpy(), result)
    assert_agreement(exported, agreed)


def test_the_portable_form_gives_the_same(exported, photo, as_batch):
    image = exported.image(photo, as_batch, 24, 40)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    portable = onnxruntime.InferenceSession(exported.manifest.qdq.read(), options)
    for code in exported.codes:
        given = {'image': image.numpy()} | inputs_of(exported.manifest.assignments[code].grids)
        one = portable.run(None, {value.name: given[value.name] for value in portable.get_inputs()})[0]
        agreed = agreement(one, exported.run(code, image))
        assert agreed.equal > 0.98 and agreed.within_one > 0.999


def test_openvino_gives_the_same(exported, photo, as_batch):
    pytest.importorskip('openvino', reason='openvino is not installed')
    image = exported.image(photo, as_batch, 24, 40)
    grids = {code: one.grids for code, one in exported.manifest.assignments.items()}
    for code, session in open_sessions(exported.manifest.qdq.read(), 'qdq', grids, 'openvino').items():
        agreed = agreement(session(image.numpy()), exported.run(code, image))
        assert agreed.equal > 0.98 and agreed.within_one > 0.999


def test_upscaled_images_are_those_of_pytorch(exported, photo, as_batch):
    manifest, chosen = exported.manifest, set()
    image = photo(28, 144, manifest.channels)
    exported.model.feed_data({'lq': as_batch(image)})
    exported.model.test()
    expected = to_image(exported.model.output)
    expected = expected[..., ::-1] if manifest.channels == 3 else expected[..., None]
    router = Router(exported.folder, RunOptions(batch=2))
    found = router.upscale(image, report=lambda code, count: chosen.add(code))
    assert found.shape == expected.shape
    agreed = agreement(found / 255, expected / 255)
    assert_agreement(exported, agreed)
    assert len(chosen) > 1 or manifest.policy['type'] != 'image_complexity'
