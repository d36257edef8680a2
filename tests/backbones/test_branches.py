"""Blocks of branches as one convolution, and back."""

import pytest
import torch

from dynq_basicsr.backbones.branches import merge, merge_blocks, split_blocks

pytest.importorskip('spandrel', reason='spandrel (extra community) is not installed')
from spandrel.architectures.SPAN.__arch.span import Conv3XC  # noqa: E402


@pytest.fixture
def block():
    torch.manual_seed(0)
    return Conv3XC(3, 5, gain1=2)


@torch.no_grad()
def test_it_gives_what_the_branches_give(block):
    image = torch.rand(2, 3, 6, 7)
    names = [f'{name}.{kind}' for name in ('sk', 'conv.0', 'conv.1', 'conv.2') for kind in ('weight', 'bias')]
    weight, bias = merge(*(block.state_dict()[name] for name in names))
    result = torch.nn.functional.conv2d(image, weight, bias, padding=1)
    torch.testing.assert_close(result, block.train()(image), rtol=1e-5, atol=1e-6)


def test_only_where_the_network_has_no_branches(block):
    state = {f'head.{key}': value for key, value in block.state_dict().items()}
    whole = {'head.eval_conv.weight', 'head.eval_conv.bias'}
    merged = merge_blocks(state, dict.fromkeys(whole))
    assert merged.keys() == whole
    block.update_params()
    torch.testing.assert_close(merged['head.eval_conv.weight'], block.eval_conv.weight.data)
    assert merge_blocks(state, state) == state


@torch.no_grad()
def test_there_and_back_loses_nothing(block):
    whole = {'a.eval_conv.weight': torch.rand(5, 3, 3, 3), 'a.eval_conv.bias': torch.rand(5)}
    complete = split_blocks(whole)
    block.load_state_dict({key.removeprefix('a.'): value for key, value in complete.items()})
    block.update_params()
    assert torch.equal(block.eval_conv.weight, whole['a.eval_conv.weight'])
    again = merge_blocks(complete, whole)
    assert again.keys() == whole.keys() and all(torch.equal(again[key], value) for key, value in whole.items())
