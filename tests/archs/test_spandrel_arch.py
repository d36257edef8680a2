"""Community checkpoints: recognised, quantized, and what is refused with a way out."""

import pytest
import torch
from torch import nn

from dynq_basicsr.archs.padding import SizeRequirement
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.spandrel_arch import Spandrel, check_spandrel, recognise
from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.layers import QuantLayer
from dynq_basicsr.training.calibration import Calibration

pytest.importorskip('spandrel', reason='spandrel (extra community) is not installed')
from spandrel.architectures.Compact import Compact  # noqa: E402
from spandrel.architectures.DAT import DAT  # noqa: E402
from spandrel.architectures.HAT import HAT  # noqa: E402
from spandrel.architectures.MMRealSR import MMRealSR  # noqa: E402
from spandrel.architectures.RCAN import RCAN  # noqa: E402
from spandrel.architectures.SwinIR import SwinIR  # noqa: E402

WINDOWS = {'embed_dim': 32, 'num_heads': [2, 2], 'upscale': 2}
NETWORKS = {
    'DAT': lambda: DAT(**WINDOWS, depth=[3, 2], split_size=[2, 4], img_size=16, expansion_factor=2),
    'HAT': lambda: HAT(**WINDOWS, depths=[2, 2], window_size=8, compress_ratio=2, squeeze_factor=2, mlp_ratio=2),
    'SwinIR': lambda: SwinIR(**WINDOWS, depths=[2, 2], window_size=8, mlp_ratio=2, upsampler='pixelshuffledirect'),
}
# what else stays float: attention's inputs and outputs, and DAT's gates between the two layers of an MLP
MLPS = {'DAT': ('.ffn.fc1', '.ffn.fc2'), 'HAT': ('.mlp.fc1', '.mlp.fc2'), 'SwinIR': ('.mlp.fc1', '.mlp.fc2')}
W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}


@pytest.fixture
def saved(tmp_path):
    """Save a network as BasicSR does and name the file."""

    def save(net, name='net.pth'):
        torch.save({'params': net.state_dict()}, tmp_path / name)
        return str(tmp_path / name)

    return save


@pytest.fixture(params=list(NETWORKS))
def kind(request):
    return request.param


@pytest.fixture
def file(kind, saved):
    torch.manual_seed(0)
    return saved(NETWORKS[kind]())


@pytest.fixture
def calibrated(images):
    """Wrap the network of a file and calibrate it on four images of 16 x 24."""

    def build(path, **options):
        net = QuantizedSR({'type': 'Spandrel', 'path': path}, {**W4A4, **options}, {'type': 'AdaBM'}).eval()
        calibration = Calibration(net)
        calibration.observe(images)
        calibration.finish()
        net.policy.thresholds.data.copy_(torch.tensor([8.0, 40.0]))
        return net

    return build


@torch.no_grad()
def test_a_file_becomes_its_network(kind, file, images):
    torch.manual_seed(0)
    expected = NETWORKS[kind]().eval()
    net = Spandrel(file)
    assert type(net) is type(expected) and net.training
    assert net.image_format.sizes == SizeRequirement(1 if kind == 'DAT' else 8, 16)
    assert torch.equal(net.eval()(images), expected(images))
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_it_trains(file, images):
    net = Spandrel(file)
    net(images).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in net.parameters())


def test_the_linear_layers_of_the_mlps_are_quantized(kind, file, log_lines):
    net = QuantizedSR({'type': 'Spandrel', 'path': file}, W4A4)
    linear = [name for name, module in net.backbone.named_modules() if isinstance(module, nn.Linear)]
    assert list(net.plan.adaptive) == [name for name in linear if name.endswith(MLPS[kind])]
    assert any(f'layers adapt (profile of {kind})' in line for line in log_lines)
    ends = QuantizedSR({'type': 'Spandrel', 'path': file}, {**W4A4, 'scope': 'full'}).plan.ends
    assert ends[0] == 'conv_first' and len(ends) > 1


@torch.no_grad()
@pytest.mark.parametrize('scope', ['body', 'full'])
def test_tokens_carry_the_bits_of_their_sample(file, calibrated, images, scope):
    net, images = calibrated(file, scope=scope).double(), images.double()
    together, bits, _ = net(images, details=True)
    assert bits.shape == (len(net.plan.adaptive), len(images)) and all(len(row.unique()) > 1 for row in bits)
    alone = torch.cat([net(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize('size', [(5, 7), (17, 40)])
def test_images_of_any_size(file, calibrated, size):
    assert calibrated(file)(torch.rand(2, 3, *size)).shape == (2, 3, 2 * size[0], 2 * size[1])


@torch.no_grad()
def test_a_class_without_a_fitting_profile_follows_the_generic_rule(saved, calibrated, images, log_lines):
    """spandrel's RCAN has EDSR-PyTorch's names, which the profile of BasicSR's does not know."""
    rcan = RCAN(n_resgroups=2, n_resblocks=2, n_feats=8, reduction=2, scale=2, kernel_size=3, n_colors=3,
                rgb_range=255, norm=False, act_mode='relu', unshuffle_mod=False)  # fmt: skip
    net = calibrated(saved(rcan))
    assert any('generic rule' in line for line in log_lines) and len(net.plan.adaptive) > 4
    assert net(images).isfinite().all()


# -- checkpoints -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_quantized_checkpoint_needs_no_other_file(file, calibrated, images, tmp_path):
    net = calibrated(file)
    quantized = str(tmp_path / 'quantized.pth')
    torch.save({'params': net.state_dict(), 'description': net.description}, quantized)
    again = QuantizedSR(**{**net.description, 'backbone': {'type': 'Spandrel', 'path': quantized}}).eval()
    load_weights(again, quantized)
    assert torch.equal(again(images), net(images))


def test_other_options_than_the_checkpoints_are_still_refused(file, calibrated, tmp_path):
    net = calibrated(file)
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'quantized.pth')
    other = QuantizedSR(net.description['backbone'], {**W4A4, 'weight': {'bits': 3}}, {'type': 'AdaBM'})
    with pytest.raises(DynqError, match='quantization.weight.bits = 4, network_g asks for 3'):
        load_weights(other, tmp_path / 'quantized.pth')


def test_a_dat_without_its_constant_buffers(saved):
    torch.manual_seed(0)
    net = DAT(embed_dim=60, depth=[18], num_heads=[6], split_size=[8, 32], expansion_factor=2, resi_connection='3conv',
              upsampler='pixelshuffledirect')  # fmt: skip
    constants = dict(net.named_buffers())
    stripped = {key: value for key, value in net.state_dict().items() if key not in constants or 'running' in key}
    path = saved(nn.ParameterDict())
    torch.save({'params': stripped}, path)
    state = Spandrel(path).state_dict()
    assert all(torch.equal(state[key], value) for key, value in net.state_dict().items())


# -- refused ---------------------------------------------------------------------------------------------------------


def test_what_spandrel_does_not_recognise(saved):
    with pytest.raises(DynqError, match='does not recognise its architecture; give .*path.pretrain_network_g'):
        Spandrel(saved(nn.Conv2d(3, 3, 3)))


def test_what_does_not_fit_the_architecture_it_resembles(saved):
    state = NETWORKS['HAT']().state_dict()
    net = nn.Module()
    net.state_dict = lambda: {**state, 'conv_after_body.weight': torch.zeros(3, 3, 3, 3)}
    with pytest.raises(DynqError, match=r'is not what spandrel takes it for \(.*size mismatch'):
        Spandrel(saved(net))


def test_what_is_no_super_resolution(saved):
    net = Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=1)
    with pytest.raises(DynqError, match='for restoration, not super-resolution; name a checkpoint that enlarges'):
        Spandrel(saved(net))


def test_what_gives_more_than_an_image(saved):
    with pytest.raises(DynqError, match='MMRealSR takes or gives more than an image'):
        Spandrel(saved(MMRealSR(num_in_ch=3, num_out_ch=3, num_feat=8, num_block=1, num_grow_ch=4)))


@pytest.mark.parametrize('path, named', [
    ('missing.pth', 'missing.pth: no such checkpoint; check the path of the Spandrel network'),
    (None, 'must name a checkpoint, not None'),
    (__file__, 'not a readable checkpoint of plain tensors'),
])  # fmt: skip
def test_what_is_no_checkpoint(path, named):
    with pytest.raises(DynqError, match=named):
        QuantizedSR({'type': 'Spandrel', 'path': path})


def test_another_scale_than_the_option_files(file):
    options = {'type': 'Spandrel', 'path': file}
    check_spandrel('network_g', options, 2)
    check_spandrel('network_g', options, None)
    with pytest.raises(DynqError, match=r'network_g.path: .* holds a x2 network, but scale is 4; make them agree'):
        check_spandrel('network_g', options, 4)


# -- the real one ----------------------------------------------------------------------------------------------------


def test_dat_light(shared_data):
    descriptor = recognise(str(shared_data / 'weights' / 'DAT-light' / 'DAT_light_x4.pth'))
    assert (descriptor.architecture.id, descriptor.scale) == ('DAT', 4)
    assert sum(parameter.numel() for parameter in descriptor.model.parameters()) == 572_766
    net = QuantizedSR({'type': 'Spandrel', 'path': str(shared_data / 'weights' / 'DAT-light' / 'DAT_light_x4.pth')},
                      W4A4)  # fmt: skip
    layers = [module for module in net.backbone.modules() if isinstance(module, QuantLayer)]
    assert len(layers) == 36 and all(isinstance(layer, nn.Linear) for layer in layers)
