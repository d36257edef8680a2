"""What a checkpoint says of its network is plain and small, or a sentence in no time."""

import pytest
import torch

from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.backbones.descriptions import BuildingLimit, check_description
from dynq_basicsr.errors import DynqError

BACKBONE = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
GOOD = {'backbone': BACKBONE, 'quantization': {'weight': {'bits': 4}}, 'policy': None}


def test_a_good_one_passes_as_it_is():
    assert check_description('net.pth', GOOD) == GOOD


@pytest.mark.parametrize('foreign', [None, 'a network', {}, {'author': 'x'}, 7, torch.ones(1)])
def test_other_people_s_words_are_none(foreign):
    assert check_description('net.pth', foreign) == {}


BOMB = [0] * 10
for _ in range(8):
    BOMB = [BOMB] * 10


@pytest.mark.parametrize(
    'change, told',
    [
        ({'backbone': 7}, 'backbone is 7'),
        ({'backbone': {'num_feat': 8}}, 'backbone.type is None'),
        ({'policy': []}, r'policy is \[\]'),
        ({'backbone': {**BACKBONE, 'num_block': 10**9}}, 'backbone.num_block is 1000000000'),
        ({'backbone': {**BACKBONE, 'num_block': 10**5000}}, 'backbone.num_block is'),
        ({'backbone': {**BACKBONE, 'img_range': float('nan')}}, 'backbone.img_range is nan'),
        ({'backbone': {**BACKBONE, 'type': 'E' * 10**6}}, 'backbone.type is'),
        ({'backbone': {**BACKBONE, 'rgb_mean': torch.ones(3)}}, 'backbone.rgb_mean is tensor'),
        ({'backbone': {**BACKBONE, 3: 4}}, 'backbone has the key 3'),
        ({'quantization': {'exclude': BOMB}}, 'too deep or too long'),
        ({'quantization': {'exclude': [0] * 20_000}}, 'too deep or too long'),
    ],
)
def test_what_cannot_be_is_told_shortly(change, told):
    with pytest.raises(DynqError, match=f'^net.pth: what it says of its network cannot be .*{told}') as caught:
        check_description('net.pth', {**GOOD, **change})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    'asked', [{'num_block': 2**20}, {'num_feat': 2**20}, {'num_feat': 20_000}, {'num_in_ch': 2**20, 'num_feat': 4096}]
)
def test_networks_larger_than_their_file_are_not_built(asked):
    state = build_backbone(BACKBONE).state_dict()
    with pytest.raises(DynqError, match='net.pth: asks for a network that is far larger than what the file holds'):
        with BuildingLimit('net.pth', state):
            build_backbone({**BACKBONE, **asked})


@pytest.mark.parametrize('options', [
    BACKBONE, {'type': 'SwinIR', 'img_size': 16, 'embed_dim': 12, 'depths': [2], 'num_heads': [2], 'window_size': 8,
               'mlp_ratio': 2, 'upscale': 2},
    {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 2, 'num_grow_ch': 4},
])  # fmt: skip
def test_networks_of_their_file_are_built_as_ever(options):
    torch.manual_seed(0)
    expected = build_backbone(options).state_dict()
    torch.manual_seed(0)
    with BuildingLimit('net.pth', expected):
        found = build_backbone(options).state_dict()
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
