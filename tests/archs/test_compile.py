"""PyTorch's compiler takes quantized networks whole, without a break in the graph, and changes no result.

What Inductor makes of such a graph is in tests/training/test_compiling.py.
"""

import pytest
import torch

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.training.calibration import Calibration

NETWORKS = {
    'SRResNetBN': {'num_feat': 8, 'num_block': 1, 'upscale': 2},
    'EDSR': {'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2},
    'IDN': {'num_feat': 16, 'upscale': 2, 'luma': True},
    'RDN': {'num_feat': 4, 'num_block': 1, 'num_layer': 1, 'num_grow_ch': 4, 'upscale': 2},
    'SwinIR': {'upscale': 2, 'img_size': 8, 'window_size': 8, 'depths': [1], 'num_heads': [1], 'embed_dim': 8,
               'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect'},
}  # fmt: skip
# IDN's blocks are alike, and to trace the quantizers of all four takes half a minute
LAYERS = {'IDN': ['re:conv3_.']}
POLICIES = {'AdaBM': 4, 'GranularDQ': 8}


@pytest.fixture(autouse=True)
def fresh_compiler():
    """Each test compiles anew, and random numbers are those of eager networks."""
    torch._dynamo.reset()
    with torch._inductor.config.patch(fallback_random=True, compile_threads=1):
        yield
    torch._dynamo.reset()


@pytest.fixture
def image():
    return torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def build(image):
    def make(kind, policy):
        torch.manual_seed(0)
        bits = {'weight': {'bits': 4}, 'activation': {'bits': POLICIES[policy]}, 'layers': LAYERS.get(kind)}
        net = QuantizedSR({'type': kind, **NETWORKS[kind]}, bits, {'type': policy})
        calibration = Calibration(net)
        calibration.observe(image)
        calibration.finish()
        return net

    return make


def step(net, run, x):
    """Output and gradients of one training step; dropped paths and the gate's choice are drawn."""
    net.zero_grad()
    torch.manual_seed(1)
    output, bits, _ = run(x, details=True)
    output.square().mean().backward()
    assert net.holder.run is None
    return output.detach(), bits.detach(), {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def assert_learning(gradients):
    """What is compared is there: ranges, weights, and the policy."""
    for part in ('weight_range.log_upper', 'activation_range.log_upper', 'conv', 'policy.'):
        assert any(part in name and (value != 0).any() for name, value in gradients.items()), part


@pytest.mark.parametrize('policy', POLICIES)
@pytest.mark.parametrize('kind', NETWORKS)
def test_the_graph_is_whole_and_computes_the_same_bit_for_bit(kind, policy, build, image):
    """The captured graphs of forward and backward, run by PyTorch's own kernels, whose sums have the same order."""
    net = build(kind, policy)
    run = torch.compile(net, fullgraph=True, backend='aot_eager')
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    expected, bits, gradients = step(net.train(), net, image)
    after = {name: value.clone() for name, value in net.named_buffers()}
    for name, value in net.named_buffers():
        value.copy_(statistics[name])
    output, compiled_bits, found = step(net, run, image)
    assert torch.equal(output, expected) and torch.equal(compiled_bits, bits)
    assert found.keys() == gradients.keys() and all(torch.equal(found[name], gradients[name]) for name in gradients)
    assert all(torch.equal(value, after[name]) or value.isnan().all() for name, value in net.named_buffers())
    assert_learning(gradients)
    net.eval()
    assert torch.equal(run(image), net(image)) and net.holder.run is None
