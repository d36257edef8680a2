"""Architectures are told from their state dicts, options and all."""

import pytest
import torch

from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.backbones.checkpoints import load_weights, read_checkpoint
from dynq_basicsr.backbones.recognise import recognise

RGB = {'num_in_ch': 3, 'num_out_ch': 3}
SWIN = {'embed_dim': 12, 'depths': [2, 3], 'num_heads': [2, 3], 'window_size': 4, 'mlp_ratio': 2}
NETWORKS = [
    {'type': 'EDSR', **RGB, 'num_feat': 8, 'num_block': 3, 'upscale': 3},
    {'type': 'EDSR', **RGB, 'num_feat': 8, 'num_block': 2, 'upscale': 4},
    {'type': 'MSRResNet', **RGB, 'num_feat': 8, 'num_block': 3, 'upscale': 4},
    {'type': 'MSRResNet', **RGB, 'num_feat': 8, 'num_block': 2, 'upscale': 3},
    {'type': 'MSRResNet', **RGB, 'num_feat': 8, 'num_block': 2, 'upscale': 2},
    {'type': 'SRResNetBN', **RGB, 'num_feat': 8, 'num_block': 2, 'upscale': 4},
    {'type': 'RDN', **RGB, 'num_feat': 8, 'num_block': 3, 'num_layer': 4, 'num_grow_ch': 6, 'upscale': 4},
    {'type': 'RDN', **RGB, 'num_feat': 8, 'num_block': 3, 'num_layer': 2, 'num_grow_ch': 6, 'upscale': 3},
    {'type': 'IMDN', **RGB, 'num_feat': 16, 'num_modules': 3, 'upscale': 2},
    {'type': 'RCAN', **RGB, 'num_feat': 8, 'num_group': 2, 'num_block': 3, 'squeeze_factor': 4, 'upscale': 2},
    {'type': 'RRDBNet', **RGB, 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4, 'scale': 4},
    {'type': 'RRDBNet', **RGB, 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4, 'scale': 2},
    {'type': 'RRDBNet', **RGB, 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4, 'scale': 1},
    {'type': 'SRVGGNetCompact', **RGB, 'num_feat': 8, 'num_conv': 5, 'upscale': 4},
    {'type': 'SRVGGNetCompact', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_conv': 4, 'upscale': 2},
    {'type': 'SwinIR', **SWIN, 'img_size': 16, 'upscale': 2, 'upsampler': 'pixelshuffledirect'},
    {'type': 'SwinIR', **SWIN, 'img_size': 8, 'upscale': 3, 'upsampler': 'pixelshuffle', 'resi_connection': '3conv'},
    {'type': 'SwinIR', **SWIN, 'img_size': 8, 'upscale': 4, 'upsampler': 'nearest+conv', 'in_chans': 1},
    {'type': 'HAT', **SWIN, 'compress_ratio': 3, 'squeeze_factor': 6, 'overlap_ratio': 0.5, 'upscale': 4},
    {'type': 'HAT', **SWIN, 'compress_ratio': 2, 'squeeze_factor': 3, 'overlap_ratio': 1, 'upscale': 2,
     'resi_connection': 'identity'},
]  # fmt: skip


def named(options):
    return f'{options["type"]} x{options.get("upscale", options.get("scale"))}'


@pytest.mark.parametrize('options', NETWORKS, ids=named)
def test_the_network_that_is_found_is_the_network_that_was(options):
    torch.manual_seed(0)
    net = build_backbone(options).eval()
    state = net.state_dict()
    found = recognise(state).options
    assert found['type'] == options['type']
    again = build_backbone(found).eval()
    again.load_state_dict(state)
    channels = options.get('num_in_ch', options.get('in_chans', 3))
    image = torch.rand(1, channels, 16, 16)
    with torch.no_grad():
        assert torch.equal(again(image), net(image))


@pytest.mark.parametrize('luma', [False, True])
def test_idn_needs_to_be_told_its_scale(luma):
    net = build_backbone({'type': 'IDN', **RGB, 'num_feat': 16, 'upscale': 2, 'luma': luma})
    assert recognise(net.state_dict()) is None
    found = recognise(net.state_dict(), scale=2)
    assert found.assumed == {'upscale': 2}
    again = build_backbone(found.options)
    again.load_state_dict(net.state_dict())
    assert (again.upscale, again.luma) == (2, luma)


def test_what_no_shape_tells_is_said():
    large = {'conv_first.weight': (256, 3, 3, 3), 'conv_last.weight': (3, 256, 3, 3),
             'body.0.conv1.weight': (256, 256, 3, 3), 'conv_after_body.weight': (256, 256, 3, 3),
             'upsample.0.weight': (1024, 256, 3, 3)}  # fmt: skip
    found = recognise({key: torch.empty(shape, device='meta') for key, shape in large.items()})
    assert found.assumed == {'res_scale': 0.1} and found.options['upscale'] == 2


def test_a_stranger_is_not_recognised():
    assert recognise({'encoder.weight': torch.zeros(4, 3, 3, 3)}) is None
    compact = {'body.0.weight': torch.zeros(8, 3, 3, 3), 'body.1.weight': torch.zeros(8, 8, 3, 3),
               'body.4.weight': torch.zeros(8, 8, 3, 3)}  # fmt: skip
    assert recognise(compact) is None


@pytest.mark.parametrize('file', ['EDSR_edsrpytorch_tiny_x2', 'EDSR_edsrpytorch_tiny_x4', 'RDN_tiny_x4', 'HAT_tiny_x4'])
def test_published_names(file, shared_data):
    path = shared_data / 'golden' / f'{file}.safetensors'
    state, _ = read_checkpoint(path)
    state = {key.removeprefix('param.'): value for key, value in state.items() if key.startswith('param.')}
    found = recognise(state).options
    assert found['type'] == file.split('_')[0]
    assert found['upscale'] == int(file[-1])
    net = build_backbone(found)
    assert sum(one.numel() for one in net.parameters()) > 0


@pytest.mark.parametrize(
    ('file', 'kind', 'scale'),
    [('SRResNet/SRResNet_BN_x4.pth', 'SRResNetBN', 4), ('IMDN/IMDN_x2.pth', 'IMDN', 2),
     ('EDSR/EDSR_baseline_x4_bsds.pth', 'EDSR', 4), ('IDN/IDN_x4.pth', 'IDN', 4)],
)  # fmt: skip
def test_real_weights(file, kind, scale, shared_data):
    path = shared_data / 'weights' / file
    found = recognise(read_checkpoint(path)[0], scale).options
    assert (found['type'], found['upscale']) == (kind, scale)
    load_weights(build_backbone(found), path)
