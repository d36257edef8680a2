"""The operator against the formula written out, by the compiled kernel and by PyTorch's operations."""

import pytest
import torch

from dynq_basicsr.numerics import fake_quantize as module
from dynq_basicsr.numerics.fake_quantize import GRADIENTS, fake_quantize, round_to_integers
from dynq_basicsr.numerics.native import why_not_native

CL = torch.channels_last


@pytest.fixture(params=['native', 'composite'])
def kernels(request, monkeypatch):
    """Run the test with each of both implementations."""
    if request.param == 'composite':
        monkeypatch.setattr(module, 'native_kernels', lambda: None)
    elif reason := why_not_native():
        pytest.skip(reason)


def grid_of(rows, dtype=torch.float32):
    scale = torch.linspace(0.05, 0.7, rows, dtype=dtype)
    low = torch.linspace(-9, 0, rows, dtype=dtype).round()
    return torch.stack([scale, low, torch.linspace(5, 15, rows, dtype=dtype).round()])


def normal(*shape, dtype=torch.float32, seed=0):
    return 1.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def repeated(grid, x):
    """Scale, low and high that broadcast to x."""
    rows = grid.repeat_interleave(len(x) // grid.shape[1], 1)
    return rows.view(3, -1, *[1] * (x.dim() - 1))


def formula(x, grid, integers=False):
    scale, low, high = repeated(grid, x)
    whole = (x / scale).round().clamp(low, high)
    return whole if integers else whole * scale


def reference_gradients(x, grid, upstream, gradient):
    """By autograd in float64; rounding is r(v) with its slope, masks are written out, for clamp splits ties."""
    x, grid, single = x.detach().double().requires_grad_(), grid.detach().double().requires_grad_(), x
    scale, low, high = repeated(grid, x)
    v = x / scale
    whole = v.detach().round()
    if gradient == 'identity':
        soft = v
    else:
        soft = torch.tanh(v - v.detach().floor() - 0.5) / torch.tanh(torch.tensor(0.5, dtype=v.dtype)) / 2
    whole = whole + soft - soft.detach()
    # sides as the operator's own precision sees them
    ends = repeated(grid.detach().to(single.dtype), single)
    below, above = (single < ends[1] * ends[0]).double(), (single > ends[2] * ends[0]).double()
    out = scale * ((1 - below - above) * whole + below * low + above * high)
    return torch.autograd.grad(out, (x, grid), upstream.double())


def gradients(x, grid, upstream, gradient, dtype=None):
    x, grid = x.detach().requires_grad_(), grid.detach().requires_grad_()
    return torch.autograd.grad(fake_quantize(x, grid, gradient, dtype), (x, grid), upstream)


def assert_close(found, expected, rtol=1e-5):
    """Relative to the largest: sums cancel."""
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=rtol, atol=rtol * float(other.abs().max()))


LAYOUTS = {
    'contiguous': lambda x: x,
    'channels last': lambda x: x.contiguous(memory_format=CL),
    'transposed': lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    'sliced': lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    'expanded': lambda x: x[:, :1].expand_as(x),
}


@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('rows', [1, 3, 6])
def test_values_are_the_formulas_in_the_layout_of_x(kernels, rows, layout):
    x, grid = LAYOUTS[layout](normal(6, 8, 9, 31)), grid_of(rows)
    y, expected = fake_quantize(x, grid), formula(x, grid)
    assert torch.equal(y, expected) and y.stride() == torch.empty_like(x).stride()
    assert torch.equal(round_to_integers(x, grid), formula(x, grid, integers=True))
    half = fake_quantize(x, grid, dtype=torch.bfloat16)
    assert torch.equal(half, expected.bfloat16()) and half.stride() == y.stride()
    assert torch.equal(round_to_integers(x, grid, torch.bfloat16).float(), formula(x, grid, integers=True))


@pytest.mark.parametrize('shape', [(2,), (2, 1), (2, 4095), (2, 4096), (2, 4097), (2, 8, 3, 700)])
def test_values_and_gradients_of_any_length(kernels, shape):
    x, grid, upstream = normal(*shape), grid_of(2), normal(*shape, seed=1)
    assert torch.equal(fake_quantize(x, grid), formula(x, grid))
    for gradient in GRADIENTS:
        assert_close(gradients(x, grid, upstream, gradient), reference_gradients(x, grid, upstream, gradient))


def test_ties_round_to_even_and_values_outside_are_clipped(kernels):
    x = torch.tensor([[-9.0, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 9.0, float('inf'), -float('inf')]])
    y = fake_quantize(x, torch.tensor([[1.0], [-2.0], [3.0]]))
    assert y.tolist() == [[-2, -2, 0, 0, 2, 2, 3, 3, 3, -2]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_nan_stays(kernels, dtype):
    x = normal(1, 40)
    x[0, 7] = float('nan')
    y = fake_quantize(x, grid_of(1), dtype=dtype)
    assert y.isnan().nonzero().tolist() == [[0, 7]]
    for gradient in GRADIENTS:
        _, found = gradients(x, grid_of(1), torch.ones_like(y), gradient, dtype)
        assert found.flatten().isnan().tolist() == [True, False, False], 'the gradient to the scale shows it'


def test_nothing_in_nothing_out(kernels):
    for shape in ((0, 3), (2, 0), (2, 0, 5, 5)):
        x, grid = torch.zeros(shape), grid_of(2)
        assert fake_quantize(x, grid).shape == shape
        found = gradients(x, grid, torch.zeros(shape), 'tanh')
        assert found[0].shape == shape and torch.equal(found[1], torch.zeros(3, 2))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(kernels, dtype):
    x, grid = normal(4, 50, dtype=dtype), grid_of(2)
    wide = torch.promote_types(dtype, torch.float32)
    y = fake_quantize(x, grid)
    assert y.dtype == dtype and torch.equal(y, formula(x.to(wide), grid.to(wide)).to(dtype))
    upstream = normal(4, 50, dtype=dtype, seed=1)
    found = gradients(x, grid, upstream, 'identity')
    assert (found[0].dtype, found[1].dtype) == (dtype, torch.float32)
    expected = reference_gradients(x.to(wide), grid, upstream, 'identity')
    assert_close(found, expected)


@pytest.mark.parametrize('gradient', GRADIENTS)
@pytest.mark.parametrize('rows', [1, 3, 6])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_gradients(kernels, layout, rows, gradient):
    x, grid = LAYOUTS[layout](normal(6, 8, 9, 31)), grid_of(rows)
    for upstream in (normal(6, 8, 9, 31, seed=1), torch.ones(()).expand(6, 8, 9, 31)):
        found = gradients(x, grid, upstream, gradient)
        assert_close(found, reference_gradients(x, grid, upstream, gradient))
        assert found[0].stride() == torch.empty_like(x).stride()
        assert (found[0].dtype, found[1].dtype) == (torch.float32, torch.float32)
    half = upstream.bfloat16().contiguous(memory_format=CL)
    assert_close(gradients(x, grid, half, gradient, torch.bfloat16), reference_gradients(x, grid, half, gradient))


@pytest.mark.parametrize('gradient', GRADIENTS)
def test_gradients_in_double_precision(gradient):
    x, upstream = (normal(4, 5, 6, dtype=torch.float64, seed=seed) for seed in (0, 1))
    grid = grid_of(2, torch.float64)
    found = gradients(x, grid, upstream, gradient)
    assert found[1].dtype == torch.float64
    assert_close(found, reference_gradients(x, grid, upstream, gradient), rtol=1e-12)


def test_no_gradient_where_none_is_needed(kernels):
    x, grid = normal(2, 9), grid_of(2)
    assert not fake_quantize(x, grid).requires_grad
    assert not round_to_integers(x.requires_grad_(), grid).requires_grad
    fake_quantize(x, grid).sum().backward()
    assert x.grad is not None and grid.grad is None
    grid.requires_grad_()
    fake_quantize(x.detach(), grid).sum().backward()
    assert grid.grad is not None


def test_results_are_new_memory_and_arguments_are_left_alone(kernels):
    x, grid = torch.zeros(2, 9), grid_of(2)
    y = fake_quantize(x, grid)
    y += 1
    assert not x.any() and torch.equal(grid, grid_of(2))


@pytest.mark.parametrize('x, grid, gradient, match', [
    (torch.zeros(3, 2), torch.ones(3, 2), 'identity', 'multiple'),
    (torch.zeros(()), torch.ones(3, 1), 'identity', 'multiple'),
    (torch.zeros(4), torch.ones(2, 2), 'identity', r'\(3, R\)'),
    (torch.zeros(4), torch.ones(3, 0), 'identity', r'\(3, R\)'),
    (torch.zeros(4, dtype=torch.int32), torch.ones(3, 1), 'identity', 'floating'),
    (torch.zeros(4), torch.ones(3, 1), 'sinus', 'gradient'),
])  # fmt: skip
def test_what_does_not_fit_is_refused(x, grid, gradient, match):
    with pytest.raises(ValueError, match=match):
        fake_quantize(x, grid, gradient)


@pytest.mark.parametrize('threads', [1, 2])
def test_results_do_not_depend_on_the_number_of_threads(kernels, threads):
    """Those of the composite's sums may: only the compiled kernel's are the same to the bit."""
    x, grid, upstream = normal(2, 64, 33, 35), grid_of(2), normal(2, 64, 33, 35, seed=1)
    before, results = torch.get_num_threads(), []
    for number in (threads, 3):
        torch.set_num_threads(number)
        results.append((fake_quantize(x, grid), *gradients(x, grid, upstream, 'tanh')))
    torch.set_num_threads(before)
    exactly = {} if module.native_kernels() is None else {'rtol': 0, 'atol': 0}
    torch.testing.assert_close(*results, **exactly)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, CL])
def test_the_operators_keep_pytorchs_rules(kernels, memory_format):
    x, grid = normal(4, 3, 5, 6).contiguous(memory_format=memory_format), grid_of(2)
    grad = normal(4, 3, 5, 6, seed=1)
    for dtype in (None, torch.bfloat16):
        leaves = x.clone().requires_grad_(), grid.clone().requires_grad_()
        torch.library.opcheck(torch.ops.dynq.fake_quantize.default, (*leaves, 'tanh', dtype))
        torch.library.opcheck(torch.ops.dynq.round_to_integers.default, (x, grid, dtype))
    torch.library.opcheck(torch.ops.dynq.fake_quantize_backward.default, (grad, x, grid, 'identity'))


@pytest.mark.parametrize('backend', ['aot_eager', 'inductor'])
def test_compiled_in_one_graph_it_computes_the_same(kernels, compiler, backend):
    if backend == 'inductor' and module.native_kernels() is None:
        pytest.skip('it takes half a minute, and differs no more than with aot_eager')

    def step(x, grid):
        return fake_quantize(2 * x, grid, 'tanh', torch.bfloat16).float() + round_to_integers(x, grid)

    grid, upstream = grid_of(2), normal(4, 8, 5, 5, seed=1)
    x = normal(4, 8, 5, 5).contiguous(memory_format=CL)
    results = []
    for function in (step, torch.compile(step, fullgraph=True, backend=backend)):
        leaves = x.clone().requires_grad_(), grid.clone().requires_grad_()
        out = function(*leaves)
        results.append((out, *torch.autograd.grad(out, leaves, upstream)))
    torch.testing.assert_close(*results)
    assert results[1][0].is_contiguous(memory_format=CL)


def test_the_kernel_is_all_that_runs():
    """No other operation of PyTorch, allocations aside."""
    if reason := why_not_native():
        pytest.skip(reason)
    x, grid = normal(4, 8, 5, 5).contiguous(memory_format=CL).requires_grad_(), grid_of(2).requires_grad_()
    upstream = normal(4, 8, 5, 5, seed=1).contiguous(memory_format=CL)
    with torch.profiler.profile() as profile:
        torch.autograd.grad(fake_quantize(x, grid), (x, grid), upstream)
    names = {event.name for event in profile.events() if event.name.startswith(('aten::', 'dynq::'))}
    allowed = {'dynq::fake_quantize', 'dynq::fake_quantize_backward', 'aten::empty_like', 'aten::empty_strided'}
    assert names <= allowed | {'aten::empty'} and 'dynq::fake_quantize_backward' in names
