"""A quantized checkpoint says what network it is, so a test option file need not."""

from copy import deepcopy

import pytest
import torch
from basicsr.archs import build_network
from basicsr.models import build_model

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.quantized_model import QuantizedModel
from dynq_basicsr.models.self_description import complete_network


@pytest.fixture
def checkpoint(train_options, tmp_path):
    """A quantized checkpoint whose options differ from the defaults: 3-bit weights, one map of two."""
    torch.manual_seed(5)
    changes = {'quantization': {'weight': {'bits': 3}, 'layers': ['re:.*conv1']}, 'policy': {'layer_to_bit': False}}
    net = build_network(train_options(network_g=changes)['network_g'])
    net.calibrated = True
    path = tmp_path / 'quantized.pth'
    torch.save({'params': net.state_dict(), 'description': net.description}, path)
    return path, net


def options_of(test_options, path, network):
    opt = test_options(path)
    return opt | {'network_g': network}


def test_the_network_is_that_of_the_checkpoint(test_options, checkpoint):
    path, net = checkpoint
    model = build_model(options_of(test_options, path, {'type': 'QuantizedSR'}))
    assert model.network.description == net.description
    lq = torch.rand(1, 3, 24, 24)
    model.feed_data({'lq': lq})
    model.test()
    with torch.no_grad():
        assert torch.allclose(model.output, net.eval()(lq), atol=1e-5)


def test_options_are_complete_before_they_are_checked(test_options, checkpoint):
    path, net = checkpoint
    opt = options_of(test_options, path, {'type': 'QuantizedSR', 'backbone': None})
    QuantizedModel.check_options(opt)
    assert opt['network_g'] == {'type': 'QuantizedSR', **net.description}


def test_what_is_given_is_compared_with_the_checkpoint(test_options, checkpoint):
    policy = {'type': 'AdaBM', 'layer_to_bit': True}
    opt = options_of(test_options, checkpoint[0], {'type': 'QuantizedSR', 'policy': policy})
    with pytest.raises(DynqError, match=r'network_g.policy.layer_to_bit = False, network_g asks for True'):
        build_model(opt)


@pytest.mark.parametrize('network', [
    {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3},
    {'type': 'QuantizedSR', 'backbone': {'type': 'EDSR'}},
    None,
])  # fmt: skip
def test_other_networks_are_left_alone(checkpoint, network):
    opt = {'network_g': network, 'path': {'pretrain_network_g': str(checkpoint[0])}}
    before = deepcopy(opt)
    complete_network(opt)
    assert opt == before


def test_a_float_checkpoint_needs_a_backbone(test_options, float_checkpoint):
    with pytest.raises(DynqError, match=r'network_g.backbone: missing, and .*edsr.pth does not describe') as caught:
        QuantizedModel.check_options(options_of(test_options, float_checkpoint, {'type': 'QuantizedSR'}))
    assert str(caught.value).endswith('give the options of the backbone.')


def test_no_checkpoint_needs_a_backbone(test_options):
    opt = options_of(test_options, None, {'type': 'QuantizedSR'})
    opt['path']['pretrain_network_g'] = None
    with pytest.raises(DynqError, match='network_g.backbone: missing; give its options, or name a quantized'):
        QuantizedModel.check_options(opt)


def test_an_absent_checkpoint_is_named(test_options):
    with pytest.raises(DynqError, match='nowhere.pth: no such checkpoint'):
        QuantizedModel.check_options(options_of(test_options, 'nowhere.pth', {'type': 'QuantizedSR'}))
