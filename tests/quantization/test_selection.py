"""Patterns against the layers that a reader of the architecture would name."""

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.selection import feature_taps, select_layers, select_modules

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
