"""Bits of patches and layers, averaged by hand."""

import pytest
import torch

from dynq_basicsr.quantization.cost import NetworkCost
from dynq_basicsr.quantization.usage import BitUsage

BOXES = [(0, 0, 10, 10), (0, 10, 10, 40), (10, 0, 20, 40)]  # 100, 300 and 400 pixels


def cost():
    return NetworkCost({'a': 10.0, 'b': 100.0}, {'a': 4, 'b': 6}, float_macs=7.0, elementwise=3.0)


@pytest.fixture
def usage():
    used = BitUsage(cost(), BOXES, 20, 40)
    used.add([2], ('a', 'b'), torch.tensor([[8.0], [6.0]]))
    used.add([0, 1], ('a', 'b'), torch.tensor([[2.0, 3.0], [4.0, 5.0]], requires_grad=True))
    return used


def test_bits_find_their_patches(usage):
    assert usage.bits['a'].tolist() == [2, 3, 8]
    assert usage.bits['b'].tolist() == [4, 5, 6]
    assert usage.patch_bits.tolist() == [3, 4, 7]
    assert usage.areas.tolist() == [100, 300, 400]
    assert not any(bits.requires_grad for bits in usage.bits.values())


def test_one_answer_may_hold_for_all_patches():
    usage = BitUsage(cost(), BOXES, 20, 40)
    usage.add([0, 1, 2], ('a', 'b'), torch.tensor([[4.0], [6.0]]))
    assert {name: bits.tolist() for name, bits in usage.bits.items()} == {'a': [4, 4, 4], 'b': [6, 6, 6]}


def test_bits_without_a_layer_are_refused():
    with pytest.raises(ValueError, match='zip'):
        BitUsage(cost(), BOXES, 20, 40).add([0], ('a', 'b'), torch.tensor([[4.0]]))


def test_fab_by_patch_and_by_area(usage):
    assert usage.fab() == usage.fab('patch') == pytest.approx((3 + 4 + 7) / 3)
    assert usage.fab('area') == pytest.approx((3 * 100 + 4 * 300 + 7 * 400) / 800)


def test_layer_bits_are_weighted_by_area(usage):
    assert usage.layer_bits == {
        'a': pytest.approx((2 * 100 + 3 * 300 + 8 * 400) / 800),
        'b': pytest.approx((4 * 100 + 5 * 300 + 6 * 400) / 800),
    }


def test_bitops_are_the_sum_over_patches_and_layers(usage):
    by_hand = sum(
        area * 2 * (10 * 4 * a + 100 * 6 * b) for area, a, b in zip((100, 300, 400), (2, 3, 8), (4, 5, 6), strict=True)
    )
    assert usage.bitops() == (pytest.approx(by_hand), pytest.approx(800 * (2 * 7 + 3) * 1024))
    assert usage.bitops(80)[0] == pytest.approx(by_hand / 10)


def test_static_layers_count_in_operations_and_in_no_mean(usage):
    usage.cost.layer_macs['head'], usage.cost.weight_bits['head'] = 20.0, 8
    fab, layer_bits, (before, _) = usage.fab(), usage.layer_bits, usage.bitops()
    usage.static['head'] = 8.0
    assert (usage.fab(), usage.layer_bits) == (fab, layer_bits)
    assert usage.bitops()[0] == pytest.approx(before - 800 * 2 * 20 * (1024 - 8 * 8))


def test_a_float_network_counts_32_bits():
    usage = BitUsage(NetworkCost({}, {}, 5.0, 0.0), BOXES, 20, 40)
    assert usage.fab() == usage.fab('area') == 32
    assert usage.layer_bits == {}
    assert usage.bitops(10) == (0, 10 * 2 * 5 * 1024)


def test_a_patch_that_never_ran_shows():
    usage = BitUsage(cost(), BOXES, 20, 40)
    usage.add([0, 1], ('a',), torch.tensor([[2.0, 3.0]]))
    assert torch.tensor(usage.fab()).isnan()
