"""HAT against the output and the names of XPixelGroup's network, and whether it trains."""

import re

import pytest
import torch
from basicsr.archs import build_network
from safetensors.torch import load_file

from dynq_basicsr.archs.hat_arch import HAT
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.errors import DynqError

pytest.importorskip('spandrel', reason='spandrel (extra community) is not installed')

TINY = {
    'upscale': 4, 'in_chans': 3, 'img_size': 16, 'window_size': 8, 'compress_ratio': 4, 'squeeze_factor': 4,
    'conv_scale': 0.01, 'overlap_ratio': 0.5, 'img_range': 1.0, 'depths': [2, 2], 'embed_dim': 24,
    'num_heads': [2, 2], 'mlp_ratio': 2, 'upsampler': 'pixelshuffle', 'resi_connection': '1conv',
}  # fmt: skip
# XPixelGroup/HAT, options/train/train_HAT-S_SRx4_finetune_from_SRx2.yml
HAT_S = {
    **TINY, 'img_size': 64, 'window_size': 16, 'compress_ratio': 24, 'squeeze_factor': 24, 'depths': [6] * 6,
    'embed_dim': 144, 'num_heads': [6] * 6,
}  # fmt: skip


@torch.no_grad()
def test_xpixelgroups_network_loads_strictly_and_gives_the_same_output(shared_data, tmp_path):
    golden = load_file(shared_data / 'golden' / 'HAT_tiny_x4.safetensors')
    weights = {key.removeprefix('param.'): value for key, value in golden.items() if key.startswith('param.')}
    torch.save({'params_ema': weights}, tmp_path / 'hat.pth')
    net = build_network({'type': 'HAT', **TINY}).eval()
    assert set(net.state_dict()) == set(weights)
    load_weights(net, tmp_path / 'hat.pth')
    assert (net(golden['input']) - golden['output']).abs().max() < 1e-4 * golden['output'].abs().max()


def test_hat_s_has_the_published_names_and_shapes(shared_data):
    lines = (shared_data / 'golden' / 'HAT-S_x4.keys.txt').read_text().splitlines()
    published = {line.split(maxsplit=1)[0]: tuple(map(int, re.findall(r'\d+', line.split(maxsplit=1)[1])))
                 for line in lines}  # fmt: skip
    net = HAT(**HAT_S)
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == published
    assert sum(parameter.numel() for parameter in net.parameters()) == 9_621_183


def test_every_parameter_gets_the_gradient_of_the_loss():
    torch.manual_seed(0)
    net, image = HAT(**TINY, drop_path_rate=0.0).double(), torch.rand(1, 3, 8, 16).double()

    def loss():
        return net(image).square().sum()

    loss().backward()
    # away from where LeakyReLU bends, the loss is smooth: a step along a random direction shows the slope
    for name, parameter in net.named_parameters():
        direction, step = torch.randn_like(parameter), 1e-6
        with torch.no_grad():
            parameter.add_(step * direction)
            ahead = loss()
            parameter.sub_(2 * step * direction)
            slope = (ahead - loss()) / (2 * step)
            parameter.add_(step * direction)
        expected = (parameter.grad * direction).sum()
        torch.testing.assert_close(slope, expected, rtol=1e-2, atol=1e-4, msg=lambda text, name=name: f'{name}: {text}')


def test_paths_are_dropped_in_training_only():
    torch.manual_seed(0)
    net, image = HAT(**TINY, drop_path_rate=0.5), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert not torch.equal(net(image), net(image))
        net.eval()
        assert torch.equal(net(image), net(image))


@torch.no_grad()
@pytest.mark.parametrize('size', [(5, 7), (16, 24), (33, 20)])
def test_images_of_any_size(size):
    net = QuantizedSR({'type': 'HAT', **TINY}).eval()
    assert net.sizes.multiple == 8
    assert net(torch.rand(1, 3, *size)).shape == (1, 3, 4 * size[0], 4 * size[1])


@pytest.mark.parametrize('wrong, named', [
    ({'upsampler': 'nearest+conv'}, 'upsampler must be pixelshuffle'),
    ({'resi_connection': '3conv'}, 'resi_connection must be 1conv or identity'),
    ({'upscale': 5}, 'refuses its options'),
    ({'windowsize': 8}, "'windowsize'.*'window_size'"),
])  # fmt: skip
def test_wrong_options_are_named(wrong, named):
    with pytest.raises(DynqError, match=named):
        QuantizedSR({'type': 'HAT', **TINY, **wrong})
