"""RDN against its formula and against the output of EDSR-PyTorch's network."""

import pytest
import torch
from safetensors.torch import load_file

from dynq_basicsr.archs.rdn_arch import RDN, LocalFusionBlock
from dynq_basicsr.backbones.checkpoints import load_weights


@torch.no_grad()
@pytest.mark.parametrize('upscale', [2, 3, 4])
def test_output_is_upscaled(upscale):
    net = RDN(num_feat=6, num_block=2, num_layer=2, num_grow_ch=4, upscale=upscale)
    assert net(torch.rand(2, 3, 7, 9)).shape == (2, 3, 7 * upscale, 9 * upscale)


@pytest.mark.parametrize('upscale', [1, 5, 8])
def test_other_scales_are_refused(upscale):
    with pytest.raises(ValueError, match='upscale must be 2, 3 or 4'):
        RDN(upscale=upscale)


def test_configuration_b_has_the_published_number_of_parameters():
    """D 16, C 8, G 64, G0 64 (Zhang et al., section 5), counted by hand."""
    with torch.device('meta'):
        count = sum(parameter.numel() for parameter in RDN().parameters())
    dense = sum((64 + 64 * layer) * 64 * 9 + 64 for layer in range(8)) + (9 * 64 * 64 + 64)
    ends = (3 * 64 * 9 + 64) + (64 * 64 * 9 + 64) + 2 * (64 * 256 * 9 + 256) + (64 * 3 * 9 + 3)
    assert count == 16 * dense + (16 * 64 * 64 + 64) + (64 * 64 * 9 + 64) + ends


@torch.no_grad()
def test_a_block_is_the_formula():
    torch.manual_seed(0)
    block, x = LocalFusionBlock(4, 3, 2), torch.randn(1, 4, 5, 6)
    first = torch.relu(block.convs[0].conv[0](x))
    second = torch.relu(block.convs[1].conv[0](torch.cat([x, first], 1)))
    torch.testing.assert_close(block(x), x + block.LFF(torch.cat([x, first, second], 1)))


@torch.no_grad()
def test_images_are_scaled_by_the_range():
    torch.manual_seed(0)
    net, x = RDN(num_feat=6, num_block=1, num_layer=1, num_grow_ch=4, upscale=2), torch.rand(1, 3, 6, 6)
    expected = net(x)
    net.img_range = 1.0
    torch.testing.assert_close(expected, net(x * 255) / 255)


@torch.no_grad()
def test_edsr_pytorchs_network_loads_strictly_and_gives_the_same_output(shared_data, tmp_path):
    path = shared_data / 'golden' / 'RDN_tiny_x4.safetensors'
    if not path.is_file():
        pytest.skip('the golden network of EDSR-PyTorch (../shared/data/golden) is not here')
    golden = load_file(path)
    weights = {key.removeprefix('param.'): value for key, value in golden.items() if key.startswith('param.')}
    torch.save(weights, tmp_path / 'rdn.pt')
    net = RDN(num_feat=16, num_block=3, num_layer=2, num_grow_ch=16, upscale=4).eval()
    assert set(net.state_dict()) == set(weights)
    load_weights(net, tmp_path / 'rdn.pt')
    output = 255 * net(golden['input'] / 255)
    assert (output - golden['output']).abs().max() < 1e-4 * golden['output'].abs().max()
