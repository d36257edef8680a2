"""What all quantizers keep: the table of all layers is each layer's own grid, and zero is one of its points."""

import copy

import pytest
import torch

from dynq_basicsr.quantization.clipping import Clipping
from dynq_basicsr.quantization.observers import Observed
from dynq_basicsr.quantization.quantizers import QUANTIZERS, ActivationQuantizer
from dynq_basicsr.quantization.quantizers.base import place_among

CANDIDATES = (2, 3, 4, 6, 8)
KINDS = [(name, grid) for name in QUANTIZERS for grid in QUANTIZERS[name].grids]


def make(name, grid, count=7, candidates=CANDIDATES, dtype=torch.float32):
    """Quantizers with parameters that differ, every other one without values below zero where it knows of them."""
    generator = torch.Generator().manual_seed(0)
    made = [QUANTIZERS[name](candidates, grid).to(dtype) for _ in range(count)]
    with torch.no_grad():
        for index, one in enumerate(made):
            for parameter in one.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if hasattr(one, 'signed'):
                one.signed.fill_(one.symmetric or index % 2 == 0)
    return made


def draw_bits(rows, columns, candidates=CANDIDATES):
    places = torch.randint(len(candidates), (rows, columns), generator=torch.Generator().manual_seed(1))
    return torch.tensor(candidates, dtype=torch.float32)[places]


def with_gradients(function, quantizers, bits):
    quantizers, bits = copy.deepcopy(quantizers), bits.clone().requires_grad_()
    table = function(quantizers, bits)
    upstream = torch.randn(table.shape, generator=torch.Generator().manual_seed(2))
    parameters = [parameter for one in quantizers for parameter in one.parameters()]
    return table, torch.autograd.grad(table, (bits, *parameters), upstream)


@pytest.mark.parametrize('columns', [1, 5])
@pytest.mark.parametrize('candidates', [CANDIDATES, (4,)])
@pytest.mark.parametrize('name, grid', KINDS)
def test_the_table_is_each_layers_own_grid(name, grid, candidates, columns):
    quantizers, bits = make(name, grid, candidates=candidates), draw_bits(7, columns, candidates)
    together, found = with_gradients(type(quantizers[0]).grid_table, quantizers, bits)
    alone, expected = with_gradients(
        lambda ones, bits: torch.stack([one.grid(row) for one, row in zip(ones, bits, strict=True)]), quantizers, bits
    )
    assert together.shape == (7, 3, columns) and torch.equal(together, alone)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('name, grid', KINDS)
def test_a_column_is_what_its_bits_give_alone(name, grid):
    """So a batch of N images is N batches of one."""
    (one,), bits = make(name, grid, count=1), draw_bits(1, 9)[0]
    rows = one.grid(bits)
    for index, bit in enumerate(bits):
        assert torch.equal(rows[:, index : index + 1], one.grid(bit.view(1)))


@pytest.mark.parametrize('name, grid', KINDS)
def test_scales_are_positive_and_ends_whole_with_zero_between(name, grid):
    quantizers = make(name, grid, count=40)
    table = type(quantizers[0]).grid_table(quantizers, draw_bits(40, 5)).detach()
    scale, low, high = table.unbind(1)
    assert (scale > 0).all() and (low <= 0).all() and (high >= 0).all()
    assert torch.equal(low, low.round()) and torch.equal(high, high.round())


@pytest.mark.parametrize('name', list(QUANTIZERS))
def test_quantizing_zero_gives_zero_on_the_integer_grid(name):
    for one in make(name, 'integer'):
        x = torch.zeros(5, 3)
        assert torch.equal(one.quantize(x, one.grid(draw_bits(1, 5)[0])), x)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('name, grid', KINDS)
def test_a_network_of_another_precision_keeps_it(name, grid, dtype):
    (one,) = make(name, grid, count=1, dtype=dtype)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(3)).to(dtype)
    result = one.quantize(x, one.grid(torch.tensor([2.0, 4.0, 8.0]).to(dtype)))
    assert result.dtype == dtype and result.isfinite().all()


@pytest.mark.parametrize('bit_aware', [True, False])
@pytest.mark.parametrize('name, grid', KINDS)
def test_layers_calibrated_together_are_layers_calibrated_alone(name, grid, bit_aware, observed, random):
    inputs = [random(4, 6, 9, 8, seed=seed) * 3.0**seed for seed in range(3)]
    inputs[1] = inputs[1].relu()
    seen = [observed(x) for x in inputs]
    bits, clipping = torch.tensor([3.0, 4.0, 8.0]), Clipping(bit_aware=bit_aware)
    together, alone = make(name, grid, 3), make(name, grid, 3)
    everything = Observed.stack(seen, ['a', 'b', 'c'])
    type(together[0]).calibrate_all(together, everything, bits, clipping)
    for index, one in enumerate(alone):
        one.calibrate(Observed.stack(seen[index : index + 1], ['one']), bits[index : index + 1], clipping)
    fresh = make(name, grid, 3)
    for one, other, before in zip(together, alone, fresh, strict=True):
        for (key, value), expected, old in zip(
            one.state_dict().items(), other.state_dict().values(), before.state_dict().values(), strict=True
        ):
            torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
            assert key == 'signed' or not torch.equal(value, old)


class Halves(ActivationQuantizer):
    """All that a quantizer must give."""

    def grid(self, bits):
        return torch.stack((2.0**-bits, -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1))

    def calibrate(self, observed, bits, clipping):
        self.seen = observed.lower.tolist(), bits.tolist(), clipping


def test_a_quantizer_of_ones_own_needs_no_more_than_a_grid_and_a_calibration(observed, random):
    own = [Halves((2, 4)) for _ in range(2)]
    bits = torch.tensor([[2.0, 4.0, 4.0], [4.0, 2.0, 4.0]])
    table = Halves.grid_table(own, bits)
    assert torch.equal(table, torch.stack([one.grid(row) for one, row in zip(own, bits, strict=True)]))
    x = torch.tensor([[0.3], [0.3], [9.0]])
    assert own[0].quantize(x, table[0]).flatten().tolist() == [0.25, 0.3125, 7 / 16]
    observers = [observed(random(2, 9, seed=seed)) for seed in range(2)]
    clipping = Clipping()
    Halves.calibrate_all(own, Observed.stack(observers, ['a', 'b']), torch.tensor([2.0, 4.0]), clipping)
    for one, observer, bit in zip(own, observers, (2.0, 4.0), strict=True):
        assert one.seen == ([observer.lower.item()], [bit], clipping)


@pytest.mark.parametrize('method', ['grid', 'calibrate'])
def test_what_a_subclass_lacks_is_no_silence(method):
    arguments = [None] * (1 if method == 'grid' else 3)
    with pytest.raises(NotImplementedError):
        getattr(ActivationQuantizer((4,)), method)(*arguments)


def test_bits_are_found_among_candidates():
    candidates = torch.tensor([4.0, 5.0, 8.0])
    bits = torch.tensor([[8.0, 4.0], [5.0, 5.0]], requires_grad=True)
    assert place_among(bits, candidates).tolist() == [[2, 0], [1, 1]]
