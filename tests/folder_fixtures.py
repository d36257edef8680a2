"""Model folders with a small convolution for each code, and the same networks in PyTorch; calibrated networks."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dynq_basicsr.runtime.grids import top_of
from dynq_basicsr.runtime.manifest import FORMAT, sealed

CODES = ('low', 'mid', 'high')
LAYER = 'body'


class TinyNetwork(torch.nn.Module):
    """Each output is a third of three inputs, so that 8-bit results lie far from rounding ties."""

    def __init__(self, seed: int, scale: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.scale = scale
        generator = torch.Generator().manual_seed(seed)
        weight = torch.zeros(channels * scale**2, channels * 9)
        for row in weight:
            row[torch.randperm(channels * 9, generator=generator)[:3]] = 1 / 3
        self.weight = weight.view(-1, channels, 3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pixel_shuffle(F.conv2d(x, self.weight, padding=1), self.scale)


def save_graph(
    nodes: list, constants: dict[str, np.ndarray], path: Path, output: str = 'result', numbers: tuple[str, ...] = ()
) -> dict:
    """Write an ONNX file from ``image``, and numbers of grids that are bytes, to ``output``; its manifest entry."""
    onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, 'tiny',
        [helper.make_tensor_value_info('image', kind, ['n', 'c', 'h', 'w'])]
        + [helper.make_tensor_value_info(name, onnx.TensorProto.UINT8, []) for name in numbers],
        [helper.make_tensor_value_info(output, kind, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    content = path.read_bytes()
    return {'file': path.name, 'sha256': hashlib.sha256(content).hexdigest(), 'bytes': len(content)}


def save_networks(networks: list[TinyNetwork], path: Path) -> dict:
    """Write networks as one ONNX file, whose grid tells which of them runs: the first where ``top`` is 1, and so on."""
    onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')
    node, top = onnx.helper.make_node, top_of(LAYER)
    nodes = [
        node('Cast', [top], ['number'], to=onnx.TensorProto.INT64),
        node('Gather', ['weights', 'number'], ['weight'], axis=0),
        node('Conv', ['image', 'weight'], ['folded'], pads=[1, 1, 1, 1]),
        node('DepthToSpace', ['folded'], ['result'], blocksize=networks[0].scale, mode='CRD'),
    ]
    weights = np.stack([one.weight.numpy() for one in (networks[0], *networks)])
    return save_graph(nodes, {'weights': weights}, path, numbers=(top,))


class Model:
    """A model folder whose parts tests can change."""

    def __init__(self, folder: Path, scale: int = 2, channels: int = 3) -> None:
        pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.networks = {code: TinyNetwork(seed, scale, channels) for seed, code in enumerate(CODES)}
        self.manifest = {
            'format': FORMAT, 'scale': scale, 'channels': channels, 'scope': 'body', 'controller': None,
            'size': {'multiple': 1, 'least': 1},
            'network': save_networks(list(self.networks.values()), folder / 'network.onnx'),
            'codes': {
                code: {'fab': 4.0, 'grids': {LAYER: {'scale': 0.5, 'zero_point': 0, 'top': number}}}
                for number, code in enumerate(CODES, 1)
            },
            'policy': {'type': 'image_complexity', 'thresholds': [8.0, 20.0], 'codes': list(CODES)},
            'tiling': {'patch_size': 24, 'patch_step': 24, 'patch_merge': 'average'},
        }  # fmt: skip
        self.write()

    def write(self, **changes: object) -> None:
        """Write the manifest, with sections changed."""
        self.manifest |= changes
        (self.folder / 'manifest.json').write_text(json.dumps(sealed(self.manifest), sort_keys=True), encoding='utf-8')

    def add_controller(self) -> None:
        """Logits (N, 3): the mean of each channel."""
        onnx = pytest.importorskip('onnx', reason='the extra deploy is not installed')
        nodes = [onnx.helper.make_node('ReduceMean', ['image'], ['logits'], axes=[2, 3], keepdims=0)]
        self.write(controller=save_graph(nodes, {}, self.folder / 'controller.onnx', 'logits'))


@pytest.fixture
def model(tmp_path) -> Model:
    """Upscales by 2; flat patches of 24 pixels go through ``low``, textured ones through ``high``."""
    return Model(tmp_path / 'model')


@pytest.fixture
def resave():
    """``resave(model)``: write the graph again after networks were changed."""

    def save(model: Model) -> None:
        model.write(network=save_networks(list(model.networks.values()), model.folder / 'network.onnx'))

    return save


@pytest.fixture
def make_model(tmp_path):
    """Make a model folder of another scale or number of channels."""
    return lambda **options: Model(tmp_path / 'other model', **options)


def photograph(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Noise that grows from left to right on a soft ground, (H, W, C) uint8: patches of all complexities."""
    generator = np.random.default_rng(seed)
    ground = 110 + 0.2 * np.arange(height)[:, None, None]
    noise = generator.normal(0, 1, (height, width, channels)) * np.linspace(0, 40, width)[None, :, None]
    return np.clip(ground + noise, 0, 255).astype(np.uint8)


@pytest.fixture
def photo():
    """``photo(height, width, channels=3)``: an image whose patches are flat on the left and textured on the right."""
    return photograph


@pytest.fixture(scope='session')
def calibrated():
    """``calibrated(backbone, quantization, policy)``: random weights, ranges and thresholds of an image's patches."""
    pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')
    import basicsr  # noqa: F401  (fills the registries)

    from dynq_basicsr import plugin
    from dynq_basicsr.archs.quantized_arch import QuantizedSR
    from dynq_basicsr.policies.complexity import entropy
    from dynq_basicsr.policies.granularity_entropy import GranularityEntropyPolicy
    from dynq_basicsr.training.calibration import Calibration

    plugin.register()

    def build(backbone: dict, quantization: dict, policy: dict | None = None) -> QuantizedSR:
        torch.manual_seed(0)
        net = QuantizedSR(backbone, quantization, policy).eval()
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):  # fresh ones do nothing
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.data.uniform_(-1, 1)
                module.bias.data.uniform_(-0.1, 0.1)
            elif isinstance(module, torch.nn.PReLU):
                module.weight.data.uniform_(-0.5, 1.5)
        patches = batch_of(photograph(24, 144, channels=backbone.get('num_in_ch', 3)))
        patches = torch.cat(patches.split(24, dim=3))
        calibration = Calibration(net)
        calibration.observe(patches)
        calibration.finish()
        if isinstance(net.policy, GranularityEntropyPolicy) and net.policy.entropy_bits:
            net.policy.set_distribution(entropy(patches))
        return net

    return build


def batch_of(image: np.ndarray) -> torch.Tensor:
    """(H, W, C) uint8 -> (1, C, H, W) in [0, 1]."""
    return torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))[None]


@pytest.fixture
def as_batch():
    """See ``batch_of``."""
    return batch_of
