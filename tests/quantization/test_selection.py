"""Patterns and rules against the layers that a reader of the architecture would name."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.selection import (
    batch_norms_behind,
    end_layers,
    feature_taps,
    generic_layers,
    select_layers,
    select_modules,
)

EDSR_BODY = ['body.0.conv1', 'body.0.conv2', 'body.1.conv1', 'body.1.conv2']


@pytest.mark.parametrize('patterns, expected', [
    (['body.0.conv1'], ['body.0.conv1']),
    (['body.1'], ['body.1.conv1', 'body.1.conv2']),
    (['body'], EDSR_BODY),
    (['ResidualBlockNoBN'], EDSR_BODY),
    ([r're:body\.\d+\.conv2'], ['body.0.conv2', 'body.1.conv2']),
    ([r're:body\.\d'], EDSR_BODY),
    (['conv_last', 'conv_first'], ['conv_first', 'conv_last']),
    (['Conv2d'], ['conv_first', *EDSR_BODY, 'conv_after_body', 'upsample.0', 'conv_last']),
    (['body.0.conv1', 'body', 'body.0.conv1'], EDSR_BODY),
])  # fmt: skip
def test_class_exact_name_regular_expression_and_container(network, patterns, expected):
    assert select_layers(network('EDSR'), patterns) == expected


def test_linear_layers_are_layers_too(network):
    names = select_layers(network('SwinIR'), ['Mlp'])
    assert len(names) == 8 and all(name.endswith(('mlp.fc1', 'mlp.fc2')) for name in names)


@pytest.mark.parametrize('pattern, near', [
    ('body.0.conv3', "'body.0.conv1'"),
    ('ResidualBlocNoBN', "'ResidualBlockNoBN'"),
    ('re:conv_afterbody', "'conv_after_body'"),
    (r're:conv', None),  # whole names only
    ('conv_fir', "'conv_first'"),
    ('ReLU', None),  # exists, but holds no layer
    ('zzz', None),
    ('', None),
    ('EDSR', None),  # the network as a whole: head and tail, too
])  # fmt: skip
def test_a_pattern_that_matches_nothing_names_what_is_near(network, pattern, near):
    with pytest.raises(DynqError) as caught:
        select_layers(network('EDSR'), ['body', pattern])
    assert repr(pattern) in str(caught.value) and 'EDSR' in str(caught.value)
    assert near is None or near in str(caught.value)


def test_a_bad_regular_expression_is_a_sentence(network):
    with pytest.raises(DynqError, match=r"'re:body\.\(' is not a regular expression"):
        select_layers(network('EDSR'), ['re:body.('])


def test_a_pattern_that_is_no_text_is_a_sentence(network):
    with pytest.raises(DynqError, match='5'):
        select_layers(network('EDSR'), [5])


def test_no_pattern_chooses_nothing(network):
    assert select_layers(network('EDSR'), []) == []


def test_generic_rule_leaves_head_upsampler_and_tail(network):
    # the last convolution at the input's resolution feeds the upsampler
    assert generic_layers(network('EDSR'), 3) == [*EDSR_BODY, 'conv_after_body']
    assert generic_layers(network('MSRResNet'), 3) == EDSR_BODY


def test_generic_rule_leaves_pooled_features(network):
    names = generic_layers(network('RCAN'), 3)
    assert not any('attention' in name for name in names)
    assert {'body.0.residual_group.0.rcab.0', 'body.0.conv', 'body.1.residual_group.1.rcab.2'} <= set(names)


def test_generic_rule_on_a_plain_stack(network):
    assert generic_layers(network('SRVGGNetCompact'), 3) == ['body.2', 'body.4', 'body.6']


def test_generic_rule_follows_the_order_of_execution_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.c, self.b, self.a = (nn.Conv2d(2, 2, 3, padding=1) for _ in range(4))
            self.unused = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x):
            return self.last(self.c(self.b(self.a(self.a(x)))))

    assert generic_layers(Backwards(), 2) == ['c', 'b']


def test_generic_rule_knows_when_it_does_not_fit():
    with pytest.raises(DynqError, match='Sequential, which has 1 conv.*network_g.quantization.layers'):
        generic_layers(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, stride=2)), 3)


def test_ends_are_the_other_convolutions_at_the_input_resolution_or_above(network):
    assert end_layers(network('EDSR'), 3, EDSR_BODY) == ['conv_first', 'conv_after_body', 'upsample.0', 'conv_last']
    rcan = network('RCAN')
    assert end_layers(rcan, 3, generic_layers(rcan, 3)) == ['conv_first', 'upsample.0', 'conv_last']


def test_linear_layers_and_convolutions_that_never_run_are_no_ends():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.strided, self.tail = (nn.Conv2d(2, 2, 3, stride, 1) for stride in (1, 2, 1))
            self.linear, self.unused = nn.Linear(2, 2), nn.Conv2d(2, 2, 1)

        def forward(self, x):
            y = self.linear(self.strided(self.head(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            return self.tail(nn.functional.interpolate(y, scale_factor=4))

    assert end_layers(Odd(), 2, []) == ['head', 'tail']


@pytest.mark.parametrize('training', [True, False])
def test_generic_rule_leaves_no_trace(network, training):
    net = network('MSRResNet').train(training)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    generic_layers(net, 3)
    assert net.training == training and not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize('names, taps', [
    (EDSR_BODY, ['body.0', 'body.1']),
    (['body.0.residual_group.0.rcab.0', 'body.0.residual_group.1.rcab.2', 'body.1.residual_group.0.rcab.0'],
     ['body.0', 'body.1']),
    (['layers.0.residual_group.blocks.0.mlp.fc1', 'layers.1.residual_group.blocks.0.mlp.fc1'],
     ['layers.0', 'layers.1']),
    (['body.2', 'body.4'], ['body.2', 'body.4']),
    (['body.0.conv1', 'conv_after_body'], ['body', 'conv_after_body']),
    (['conv'], ['conv']),
    (['down1', 'down2'], ['down1', 'down2']),
    ([], []),
])  # fmt: skip
def test_feature_taps_are_the_blocks(names, taps):
    assert feature_taps(names) == taps


def test_modules_of_any_kind(network):
    edsr = network('EDSR')
    assert select_modules(edsr, ['ReLU', 'conv_first']) == ['conv_first', 'body.0.relu', 'body.1.relu']
    assert select_modules(edsr, ['re:nothing']) == []


class WithNorms(nn.Module):
    """Layers in front of batch norms, and what is not quite that."""

    def __init__(self):
        super().__init__()
        for name in 'abcdefgh':
            self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))
            self.add_module(f'{name}_norm', nn.BatchNorm2d(3, track_running_stats=name != 'e'))
        self.linear, self.linear_norm = nn.Linear(64, 64), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.a_norm(self.a(x))
        read_twice = self.b(x)
        x = self.b_norm(read_twice) + read_twice
        x = self.c_norm(self.c(x).relu())
        x = checkpoint(lambda x: self.d_norm(self.d(x)), x, use_reentrant=False)
        x = self.e_norm(self.e(x))
        x = self.f_norm(self.f(x)) + self.f(x)  # a convolution that runs twice
        x = self.g_norm(self.g(x)) + self.g_norm(x)  # a norm that does
        gated = self.h(x)
        x = self.h_norm(gated) * (gated > 0)  # a reader that autograd does not know
        return self.linear_norm(self.linear(x)).detach(), x


@pytest.mark.parametrize('gradient', [True, False])
def test_batch_norms_that_alone_read_a_result(gradient):
    model = WithNorms().train().requires_grad_(gradient)
    names = [*'abcdefgh', 'linear']
    assert batch_norms_behind(model, names, 3) == {'a': 'a_norm', 'd': 'd_norm'}
    assert batch_norms_behind(model, 'bd', 3) == {'d': 'd_norm'}
    assert model.training and not any(module._forward_hooks for module in model.modules())
    assert (model.a_norm.running_var == 1).all() and model.a_norm.num_batches_tracked == 0


def test_networks_without_batch_norms_are_not_run(network, monkeypatch):
    model = network('EDSR')
    monkeypatch.setattr(model, 'forward', None)
    assert batch_norms_behind(model, ['conv_first'], 3) == {}


class AfterOthers(nn.Module):
    """Convolutions whose results lie where tensors that were read have lain."""

    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(8))
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(8))

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            for _ in range(6):
                x = x + 1
            x = norm(conv(x))
        return x


def test_reads_of_tensors_that_are_gone_do_not_count():
    names = [f'convs.{index}' for index in range(8)]
    assert list(batch_norms_behind(AfterOthers(), names, 3)) == names
