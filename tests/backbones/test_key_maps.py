"""Other people's names for EDSR's parameters."""

import pytest
import torch
from safetensors.torch import load_file

from dynq_basicsr.backbones.checkpoints import load_weights
from dynq_basicsr.backbones.key_maps import KEY_MAPS
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.run import Mode


def edsr_pytorch(key):
    """What EDSR-PyTorch calls a parameter of BasicSR's EDSR with two blocks (METHODS section 3)."""
    for ours, theirs in {
        'conv_first.': 'head.0.',
        'conv_after_body.': 'body.2.',
        'upsample.': 'tail.0.',
        'conv_last.': 'tail.1.',
    }.items():
        key = key.replace(ours, theirs)
    return key.replace('.conv1.', '.body.0.').replace('.conv2.', '.body.2.')


def adabm(key):
    """AdaBM's own code names only the convolutions of a block as BasicSR does."""
    return edsr_pytorch(key).replace('.body.0.', '.conv1.').replace('.body.2.', '.conv2.')


RGB_MEAN = torch.tensor([0.4488, 0.4371, 0.4040])
MEAN_SHIFT = {f'{side}_mean.weight': torch.eye(3).view(3, 3, 1, 1) for side in ('sub', 'add')} | {
    'sub_mean.bias': -255 * RGB_MEAN, 'add_mean.bias': 255 * RGB_MEAN
}  # fmt: skip
QUANTIZER_SCALARS = {
    f'body.{block}.conv{conv}.{name}': torch.ones(1)
    for block in (0, 1) for conv in (1, 2) for name in ('lower_a', 'upper_a', 'upper_w', 'measure_layer')
} | {'measure_l': torch.ones(1), 'measure_u': torch.ones(1)}  # fmt: skip


@pytest.mark.parametrize('rename, more', [
    (edsr_pytorch, {}), (edsr_pytorch, MEAN_SHIFT), (adabm, MEAN_SHIFT), (adabm, MEAN_SHIFT | QUANTIZER_SCALARS)
])  # fmt: skip
@pytest.mark.parametrize('wrap', [
    lambda s: s, lambda s: {'state_dict': s}, lambda s: {f'module.{key}': value for key, value in s.items()}
])  # fmt: skip
def test_edsr_of_other_people(tmp_path, edsr, weights, rename, more, wrap):
    foreign = {rename(key): value for key, value in weights.items()}
    assert len(foreign) == len(weights) and set(foreign) != set(weights)
    torch.save(wrap(foreign | more), tmp_path / 'edsr.pt')
    net = edsr()
    load_weights(net, tmp_path / 'edsr.pt')
    assert all(torch.equal(value, weights[key]) for key, value in net.state_dict().items())


def test_foreign_names_reach_the_backbone_of_a_quantized_network(tmp_path, quantized_edsr, weights):
    torch.save({edsr_pytorch(key): value for key, value in weights.items()}, tmp_path / 'edsr.pt')
    net = quantized_edsr()
    load_weights(net, tmp_path / 'edsr.pt')
    assert all(torch.equal(net.backbone.state_dict()[key], value) for key, value in weights.items())
    assert not net.calibrated


def test_another_mean_shift_is_not_dropped_in_silence(tmp_path, edsr, weights):
    """BasicSR's EDSR has one constant for both; a file with other values would give another picture."""
    foreign = (
        {edsr_pytorch(key): value for key, value in weights.items()} | MEAN_SHIFT | {'sub_mean.bias': torch.zeros(3)}
    )
    torch.save(foreign, tmp_path / 'edsr.pt')
    with pytest.raises(DynqError, match='sub_mean'):
        load_weights(edsr(), tmp_path / 'edsr.pt')


@pytest.mark.parametrize('scale, quantized', [(2, False), (4, False), (4, True)])
def test_golden_networks_give_their_golden_output(shared_data, tmp_path, edsr, quantized_edsr, scale, quantized):
    golden = load_file(shared_data / 'golden' / f'EDSR_edsrpytorch_tiny_x{scale}.safetensors')
    state = {key.removeprefix('param.'): value for key, value in golden.items() if key.startswith('param.')}
    # its mean shift is as random as the rest, so it is done here, and the network does its own around nothing
    sub, add = (state.pop(f'{side}_mean.bias').view(1, 3, 1, 1) for side in ('sub', 'add'))
    assert all(torch.equal(state.pop(f'{side}_mean.weight').squeeze(), torch.eye(3)) for side in ('sub', 'add'))
    torch.save(state, tmp_path / 'golden.pt')
    options = {'upscale': scale, 'rgb_mean': (0, 0, 0)}
    net = quantized_edsr(backbone=options) if quantized else edsr(**options)
    load_weights(net, tmp_path / 'golden.pt')
    options = {'mode': Mode.FLOAT} if quantized else {}
    with torch.no_grad():
        output = 255 * net((golden['input'] + sub) / 255, **options) + add
    assert output.shape == golden['output'].shape
    assert (output - golden['output']).abs().max() <= 1e-4 * golden['output'].abs().max()


def test_names_that_no_rule_knows_stay():
    for rename in KEY_MAPS.values():
        assert rename('layers.0.mlp.fc1.weight') == 'layers.0.mlp.fc1.weight'
    assert KEY_MAPS['as they are']('head.0.weight') == 'head.0.weight'


@pytest.mark.parametrize('key, ours', [
    ('head.0.weight', 'conv_first.weight'),
    ('body.15.body.2.bias', 'body.15.conv2.bias'),
    ('body.16.weight', 'conv_after_body.weight'),
    ('body.3.conv1.weight', 'body.3.conv1.weight'),
    ('tail.0.2.weight', 'upsample.2.weight'),
    ('tail.1.bias', 'conv_last.bias'),
    ('sub_mean.weight', None),
    ('body.3.conv1.upper_w', None),
    ('measure_u', None),
])  # fmt: skip
def test_rules_of_edsr(key, ours):
    assert KEY_MAPS['EDSR-PyTorch'](key) == ours
