"""The float network behind a checkpoint."""

from pathlib import Path

import pytest
import torch

from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.errors import DynqError
from dynq_basicsr.workflow.source import find_network, scale_in_name

COMPACT = {'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 3, 'upscale': 2}


@pytest.fixture
def saved(tmp_path):
    def save(options, name='net.pth', **more):
        net = build_backbone(options)
        torch.save({'params': net.state_dict(), **more}, tmp_path / name)
        return tmp_path / name

    return save


def test_a_recognised_checkpoint(saved):
    path = saved(COMPACT)
    found = find_network(path)
    assert found.weights == path
    options = found.backbone.options
    assert options['type'] == 'SRVGGNetCompact' and options['num_conv'] == 3
    given = torch.load(path)['params']
    assert all(torch.equal(value, given[name]) for name, value in found.backbone.network.state_dict().items())
    assert found.found.startswith('SRVGGNetCompact, ') and 'upscale=2' in found.found


def test_what_was_assumed_is_said(saved):
    path = saved({'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2})
    assert find_network(path).found.endswith('Assumed: res_scale=1.')


def test_a_given_architecture_is_taken(saved):
    path = saved(COMPACT)
    assert find_network(path, arch=COMPACT).backbone.options == COMPACT
    with pytest.raises(DynqError, match="Did you mean 'SRVGGNetCompact'"):
        find_network(path, arch={'type': 'SRVGGNetCompakt'})


def test_the_scale_of_idn_comes_from_the_name_or_from_the_user(saved):
    idn = {'type': 'IDN', 'num_feat': 16, 'upscale': 3}
    assert find_network(saved(idn, 'IDN_x3.pth')).backbone.options['upscale'] == 3
    assert find_network(saved(idn, 'IDN.pth'), scale=2).backbone.options['upscale'] == 2


def test_a_network_is_copied():
    net = build_backbone(COMPACT)
    found = find_network(net)
    assert found.backbone.network is not net and found.backbone.options is None and found.weights is None
    next(found.backbone.network.parameters()).data.zero_()
    assert next(net.parameters()).abs().sum() > 0


def test_spandrel_takes_what_is_none_of_ours(tmp_path):
    spandrel = pytest.importorskip('spandrel')
    from spandrel.architectures.SPAN import SPAN

    path = tmp_path / 'span.pth'
    torch.manual_seed(0)
    net = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=16, upscale=2, norm=False)
    torch.save(net.state_dict(), path)
    found = find_network(path)
    assert found.backbone.options == {'type': 'Spandrel', 'path': str(path)}
    assert type(found.backbone.network) is SPAN
    assert found.found == 'SPAN x2, recognised by spandrel.'
    assert spandrel.__version__


def test_a_stranger_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / 'strange.pth'
    torch.save({'encoder.weight': torch.zeros(3)}, path)
    with pytest.raises(DynqError, match='--arch NAME key=value'):
        find_network(path)


@pytest.mark.parametrize(
    ('name', 'scale'),
    [('IDN_x4.pth', 4), ('4x_photo.pth', 4), ('net-X2-best.pth', 2), ('EDSR_64x64.pth', None), ('x2_to_x4.pth', None),
     ('realesr-general-x4v3.pth', None), ('plain.pth', None)],
)  # fmt: skip
def test_the_scale_that_a_name_tells(name, scale):
    assert scale_in_name(Path(name)) == scale
