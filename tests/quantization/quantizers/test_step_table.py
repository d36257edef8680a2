"""A step a bit-width: levels, gradients, and that only those in use learn."""

import math

import pytest
import torch

from dynq_basicsr.numerics.fake_quantize import fake_quantize
from dynq_basicsr.quantization.quantizers import QUANTIZERS
from dynq_basicsr.quantization.quantizers.minmax import ActivationRange
from dynq_basicsr.quantization.quantizers.step_table import StepTable, SymmetricStepTable


def steps(candidates=(4, 5, 6, 8), quantizer='learned_step', signed=True, sizes=(0.2, 0.1, 0.05, 0.01), **options):
    table = QUANTIZERS[quantizer](candidates, **options)
    table.set(torch.tensor(sizes), signed)
    return table


def quantize(table, x, *bits):
    return table.quantize(x, table.grid(torch.tensor(bits, dtype=x.dtype)))


KINDS = [
    ('learned_step', False, (0, 15)), ('learned_step', True, (-8, 7)), ('pams', False, (-7, 7)), ('pams', True, (-7, 7))
]  # fmt: skip


@pytest.mark.parametrize('quantizer, signed, limits', KINDS)
def test_levels_of_each_quantizer(quantizer, signed, limits):
    table = steps(quantizer=quantizer, signed=signed)
    assert tuple(table.grid(torch.tensor([4.0]))[1:].flatten().tolist()) == limits
    assert tuple(float(one) for one in table.limits(torch.tensor(4.0), torch.tensor(signed))) == limits
    x = torch.linspace(-9, 9, 2001).view(1, -1)
    found = quantize(table, x, 4.0) / 0.2
    torch.testing.assert_close(found.unique().round(), torch.arange(limits[0], limits[1] + 1.0))
    torch.testing.assert_close(found, found.round())


def test_each_sample_is_quantized_at_the_step_of_its_bits(random):
    table, x = steps(), random(4, 3, 5, 5)
    together = quantize(table, x, 8.0, 4.0, 6.0, 5.0)
    for index, (bits, size) in enumerate(((8, 0.01), (4, 0.2), (6, 0.05), (5, 0.1))):
        grid = torch.tensor([[size], [-(2.0 ** (bits - 1))], [2.0 ** (bits - 1) - 1]])
        torch.testing.assert_close(together[index : index + 1], fake_quantize(x[index : index + 1], grid))


def test_a_signed_step_is_a_range_of_the_integer_grid(random):
    """So whatever freezes ranges to integers freezes steps, too."""
    table, x, bounds = steps(), random(2, 3, 5, 5), ActivationRange()
    bounds.set(-8 * 0.2, 7 * 0.2)
    torch.testing.assert_close(quantize(table, x, 4.0), quantize(bounds, x, 4.0))


def test_only_steps_in_use_learn_and_they_stay_positive(random):
    table = steps()
    optimizer = torch.optim.SGD(table.parameters(), lr=100)
    before = table.log_step.detach().clone()
    quantize(table, random(2, 3, 5, 5), 8.0, 5.0).square().sum().backward()
    optimizer.step()
    assert ((table.log_step != before) == torch.tensor([False, True, False, True])).all()
    assert (table.grid(torch.tensor([8.0, 5.0]))[0] > 0).all()


def test_bits_have_the_slope_of_the_candidates_around_them():
    table = steps(signed=False)
    bits = torch.tensor([4.0, 5.0, 6.0, 8.0], requires_grad=True)
    (slopes,) = torch.autograd.grad(table.grid(bits)[0].log().sum(), bits)
    logs = torch.tensor([0.2, 0.1, 0.05, 0.01]).log()
    assert slopes[0].item() == pytest.approx((logs[1] - logs[0]).item(), rel=1e-4)
    assert slopes[1].item() == pytest.approx((logs[2] - logs[0]).item() / 2, rel=1e-4)
    assert slopes[3].item() == pytest.approx((logs[3] - logs[2]).item() / 2, rel=1e-4)
    alone = steps((8,), sizes=(0.1,))
    (slope,) = torch.autograd.grad(alone.grid(eight := torch.tensor([8.0], requires_grad=True))[0].log().sum(), eight)
    assert slope.item() == pytest.approx(-math.log(2))


def test_a_gradient_to_the_bits_changes_no_value():
    table, bits = steps(), torch.tensor([4.0, 5.0, 6.0, 8.0])
    assert torch.equal(table.grid(bits.clone().requires_grad_()), table.grid(bits))


def test_a_dead_layer_still_has_a_step():
    table = steps(sizes=(0.0, 0.0, 0.0, 0.0))
    assert torch.equal(quantize(table, torch.zeros(1, 4), 4.0), torch.zeros(1, 4))
    assert (table.grid(torch.tensor([4.0]))[0] > 0).all()


class _SoftRound(torch.autograd.Function):
    """Rounding whose gradient is that of QuantSR's tanh between two levels, found by autograd."""

    @staticmethod
    def forward(ctx, v):
        ctx.save_for_backward(v)
        return v.round()

    @staticmethod
    def backward(ctx, grad):
        with torch.enable_grad():
            v = ctx.saved_tensors[0].detach().requires_grad_()
            soft = (torch.tanh(v - v.detach().floor() - 0.5) / torch.tanh(torch.tensor(0.5, dtype=v.dtype)) + 1) / 2
            (slope,) = torch.autograd.grad(soft.sum(), v)
        return grad * slope


def ste(v):
    return v + (v.round() - v).detach()


@pytest.mark.parametrize('gradient', ['identity', 'tanh'])
@pytest.mark.parametrize('quantizer, signed, limits', KINDS)
def test_gradients(gradient, quantizer, signed, limits):
    """To x, to steps, and through step and limits to bits, of which one more halves the only step."""
    rounding = ste if gradient == 'identity' else _SoftRound.apply
    generator = torch.Generator().manual_seed(4)
    for size in (0.05, 0.2, 0.7):
        x = (1.5 * torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64)).requires_grad_()
        upstream = torch.randn(2, 4, 5, 5, generator=generator, dtype=torch.float64)
        table = QUANTIZERS[quantizer]((4,), gradient=gradient).double()
        table.set(torch.tensor([size], dtype=torch.float64), signed)
        bits = torch.full((2,), 4.0, dtype=torch.float64, requires_grad=True)
        out = table.quantize(x, table.grid(bits))
        found = torch.autograd.grad(out, (x, table.log_step, bits), upstream)

        levels = 2 ** (bits - 1)
        low, high = 1 - levels, levels - 1  # pams
        if quantizer == 'learned_step':
            low = -levels if signed else 0 * levels
            high = low + 2 * levels - 1
        assert (low[0].item(), high[0].item()) == limits
        step = (table.log_step - math.log(2) * (bits - 4)).exp()
        step, low, high = (one.view(-1, 1, 1, 1) for one in (step, low, high))
        v = x / step
        inside, below, above = ((v >= low) & (v <= high)).double(), (v < low).double(), (v > high).double()
        expected_out = step * (inside * rounding(v) + below * low + above * high)
        torch.testing.assert_close(out, expected_out)
        expected = torch.autograd.grad(expected_out, (x, table.log_step, bits), upstream)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize('gradient', ['identity', 'tanh'])
def test_values_on_the_edges_of_the_range_are_inside(gradient):
    table = steps((3,), sizes=(1.0,), gradient=gradient)
    x = torch.tensor([[-4.0, 3.0, -4.001, 3.001]], requires_grad=True)
    (found,) = torch.autograd.grad(quantize(table, x, 3.0).sum(), x)
    assert ((found != 0) == torch.tensor([[True, True, False, False]])).all()


@pytest.mark.parametrize('gradient', ['identity', 'tanh'])
def test_values_far_outside_the_range_have_finite_gradients(gradient):
    table = steps((4,), sizes=(1e-3,), gradient=gradient)
    x = torch.tensor([[1e33, -1e33, 0.4], [3e30, 0.1, 0.2]], requires_grad=True)
    (to_x, to_step) = torch.autograd.grad(quantize(table, x, 4.0).sum(), (x, table.log_step))
    assert torch.equal(to_x, torch.zeros_like(x))
    torch.testing.assert_close(to_step, torch.tensor([1e-3 * (5 * 7 - 8)]))


def test_signs_and_steps_are_saved_and_candidates_are_not():
    assert set(steps().state_dict()) == {'log_step', 'signed'}
    other = StepTable((4, 5, 6, 8))
    other.load_state_dict(steps().state_dict())
    assert other.signed and torch.equal(other.log_step, steps().log_step)
    assert SymmetricStepTable((4,)).signed and not StepTable((4,)).signed
