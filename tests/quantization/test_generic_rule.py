"""The rule for networks that nobody described, against the layers that a reader of the architecture would name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.data_flow import trace
from dynq_basicsr.quantization.generic_rule import (
    ATTENTION,
    BODY,
    END,
    FLOAT,
    HEAD,
    batch_norms_behind,
    body_layers,
    find_roles,
    first_convolution,
    layers_of,
)

EDSR_BODY = ['body.0.conv1', 'body.0.conv2', 'body.1.conv1', 'body.1.conv2']
C = 8


def conv(inputs=C, outputs=C, size=3, **options):
    return nn.Conv2d(inputs, outputs, size, padding=options.pop('padding', size // 2), **options)


def look(net, channels=3, side=64):
    torch.manual_seed(0)
    return trace(net, torch.rand(1, channels, side, side))


def roles(net, channels=3, side=64):
    return find_roles(net, look(net, channels, side))


class Around(nn.Module):
    """A head, blocks with skips around them, a convolution, an upsampler of scale 2."""

    def __init__(self, *blocks, image=3):
        super().__init__()
        self.head, self.blocks, self.after = conv(image), nn.ModuleList(blocks), conv()
        self.up = conv(C, 4 * image)

    def forward(self, x):
        x = y = self.head(x)
        for block in self.blocks:
            y = y + block(y)
        return F.pixel_shuffle(self.up(self.after(y) + x), 2)


def roles_within(*blocks):
    """Of the layers of the blocks alone, kind by name."""
    found = roles(Around(*blocks))
    assert found['head'].kind == HEAD and found['after'].kind == BODY and found['up'].kind == END
    return {name.removeprefix('blocks.0.'): role.kind for name, role in found.items() if name.startswith('blocks')}


# -- plain networks --------------------------------------------------------------------------------------------------


def test_head_upsampler_and_tail_are_not_of_the_body(network):
    # the last convolution at the input's resolution feeds the upsampler
    found = roles(network('EDSR'))
    assert layers_of(found, BODY) == [*EDSR_BODY, 'conv_after_body']
    assert layers_of(found, HEAD) == ['conv_first'] and layers_of(found, END) == ['upsample.0', 'conv_last']
    assert layers_of(roles(network('MSRResNet')), BODY) == EDSR_BODY
    assert layers_of(roles(network('SRVGGNetCompact')), BODY) == ['body.2', 'body.4', 'body.6']


def test_it_chooses_what_the_profiles_choose_of_transformers(network):
    found = roles(network('SwinIR'))
    assert all(found[name].kind == BODY for name in found if '.mlp.' in name)
    assert all(found[name].kind == ATTENTION for name in found if '.attn.' in name)
    assert sum('.mlp.' in name for name in found) == sum('.attn.' in name for name in found) == 8


def test_the_order_is_that_of_execution_not_of_definition():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.c, self.b, self.a = (conv(2, 2) for _ in range(4))
            self.unused = conv(2, 2)

        def forward(self, x):
            return self.last(self.c(self.b(self.a(self.a(x)))))

    net = Backwards()
    flow = look(net, 2)
    found = find_roles(net, flow)
    assert body_layers(net, found) == ['c', 'b'] and first_convolution(net, flow) == 'a'
    assert found['last'].kind == END and found['unused'].why == 'the image does not run through it as a module'
    assert {name: len(steps) for name, steps in flow.runs().items()} == {'a': 2, 'b': 1, 'c': 1, 'last': 1}


def test_it_knows_when_it_does_not_fit():
    net = nn.Sequential(conv(3, 3), nn.Conv2d(3, 3, 3, stride=2))
    with pytest.raises(DynqError, match=r'Sequential, none of whose 2 conv.*network_g\.quantization\.layers'):
        body_layers(net, roles(net))
    with pytest.raises(DynqError, match='Linear has no convolution'):
        first_convolution(nn.Linear(64, 64), look(nn.Linear(64, 64)))


@pytest.mark.parametrize('where', ['at both ends', 'with pixel unshuffle'])
def test_mean_shifts_are_no_head(where):
    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.sub_mean, self.add_mean = conv(3, 3, 1), conv(3, 3, 1)
            self.inner = Around(conv(), image=3 if where == 'at both ends' else 12)

        def forward(self, x):
            x = self.sub_mean(x)
            x = self.inner(x) if where == 'at both ends' else F.pixel_shuffle(self.inner(F.pixel_unshuffle(x, 2)), 2)
            return self.add_mean(x)

    net = Shifted()
    flow = look(net)
    found = find_roles(net, flow)
    assert first_convolution(net, flow) == 'inner.head' and found['inner.head'].kind == HEAD
    assert found['sub_mean'].kind == found['add_mean'].kind == FLOAT
    assert layers_of(found, BODY) == ['inner.blocks.0', 'inner.after'] and layers_of(found, END) == ['inner.up']


def test_a_branch_of_the_image_is_no_head_and_no_body():
    class TwoBranches(nn.Module):
        def __init__(self):
            super().__init__()
            self.skip, self.main = conv(3, 12, 5), Around(conv())

        def forward(self, x):
            return F.pixel_shuffle(self.skip(x), 2) + self.main(x)

    found = roles(TwoBranches())
    assert layers_of(found, HEAD) == ['main.head'] and found['skip'].why == 'reads the image alone'


# -- lower resolutions -----------------------------------------------------------------------------------------------


def test_all_levels_of_a_u_net_are_its_body():
    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.down, self.low, self.tail = conv(3), conv(stride=2), conv(), conv(C, 3)
            self.up, self.merge = nn.ConvTranspose2d(C, C, 2, 2), conv(2 * C)

        def forward(self, x):
            y = self.head(x)
            z = self.up(self.low(self.down(y).relu()).relu())
            return self.tail(self.merge(torch.cat([y, z], 1)).relu())

    found = roles(UNet())
    assert layers_of(found, BODY) == ['down', 'low', 'merge'] and found['tail'].kind == END
    assert found['up'].why == 'no quantized layer stands for a ConvTranspose2d'


def test_a_trunk_at_a_lower_resolution_than_the_image():
    class Strided(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.a, self.b = conv(3, stride=2), conv(), conv()
            self.up, self.tail = conv(C, 16 * C), conv(C, 3)

        def forward(self, x):
            return self.tail(F.pixel_shuffle(self.up(self.b(self.a(self.head(x)).relu()).relu()), 4))

    found = roles(Strided())
    assert layers_of(found, BODY) == ['a', 'b'] and layers_of(found, END) == ['up', 'tail']
    assert found['tail'].why == 'works behind the upsampler'


# -- attention -------------------------------------------------------------------------------------------------------


class ESA(nn.Module):
    """Enhanced spatial attention of RFDN: strided and pooled convolutions, and a sigmoid gate."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv_f, self.conv4 = conv(C, 4, 1), conv(4, 4, 1), conv(4, C, 1)
        self.conv2, self.conv_max, self.conv3 = conv(4, 4, stride=2, padding=0), conv(4, 4), conv(4, 4)
        self.before = conv()

    def forward(self, x):
        x = self.before(x)
        small = self.conv1(x)
        pooled = self.conv3(self.conv_max(F.max_pool2d(self.conv2(small), 7, 3)).relu())
        mask = torch.sigmoid(self.conv4(F.interpolate(pooled, x.shape[2:], mode='bilinear') + self.conv_f(small)))
        return x * mask


class PixelAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.k2, self.k3, self.k4 = conv(C, C, 1), conv(), conv()

    def forward(self, x):
        return self.k4(self.k3(x) * torch.sigmoid(self.k2(x)))


class SpanBlock(nn.Module):
    """SPAN's: the gate is made of the features themselves, by no layer."""

    def __init__(self):
        super().__init__()
        self.c1, self.c2 = conv(), conv()

    def forward(self, x):
        out = self.c2(F.silu(self.c1(x)))
        return (out + x) * (torch.sigmoid(out) - 0.5)


class ChannelAttention(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.a, self.squeeze, self.excite, self.gate = conv(), conv(C, 2, 1), conv(2, C, 1), gate

    def forward(self, x):
        x = self.a(x)
        return x * self.gate(self.excite(self.squeeze(F.adaptive_avg_pool2d(x, 1)).relu()))


class SimpleGate(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide, self.narrow = conv(C, 2 * C, 1), conv(C, C, 1)

    def forward(self, x):
        one, other = self.wide(x).chunk(2, 1)
        return self.narrow(one * other)


class LargeKernelAttention(nn.Module):
    """``x * attention(x)``, without a sigmoid: the attention is the gate, x is not."""

    def __init__(self):
        super().__init__()
        self.first, self.spatial, self.point = conv(), conv(groups=C), conv(C, C, 1)

    def forward(self, x):
        x = self.first(x)
        return x * self.point(self.spatial(x))


class PooledBias(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.context = conv(), conv(C, C, 1)

    def forward(self, x):
        return self.a(x) + self.context(x.mean((2, 3), keepdim=True))


class OwnActivations(nn.Module):
    """ReLU, swish and mish, and a normalization, written out."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (conv() for _ in range(4))

    def forward(self, x):
        x = self.a(x)
        x = self.b(x * (x > 0))
        x = self.c(x * torch.sigmoid(x))
        x = x * torch.tanh(F.softplus(x))
        return self.d((x - x.mean(1, keepdim=True)) * torch.rsqrt(x.var(1, keepdim=True) + 1e-5))


class Steered(nn.Module):
    """What says where others are read is no feature."""

    def __init__(self):
        super().__init__()
        self.values, self.where, self.which = conv(), conv(C, 2), conv()

    def forward(self, x):
        y = F.grid_sample(self.values(x), self.where(x).permute(0, 2, 3, 1), align_corners=False)
        return y.gather(1, self.which(x).argsort(1))


@pytest.mark.parametrize('block, attention', [
    (ESA(), ['conv1', 'conv_f', 'conv4', 'conv2', 'conv_max', 'conv3']), (PixelAttention(), ['k2']), (SpanBlock(), []),
    (ChannelAttention(nn.Sigmoid()), ['squeeze', 'excite']), (ChannelAttention(nn.Identity()), ['squeeze', 'excite']),
    (ChannelAttention(nn.Hardsigmoid()), ['squeeze', 'excite']), (ChannelAttention(nn.Tanh()), ['squeeze', 'excite']),
    (SimpleGate(), ['wide']), (LargeKernelAttention(), ['spatial', 'point']), (OwnActivations(), []),
    (Steered(), ['where', 'which']),
], ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else '')  # fmt: skip
def test_what_feeds_nothing_but_gates_is_attention(block, attention):
    found = roles_within(block)
    assert sorted(name for name, kind in found.items() if kind == ATTENTION) == sorted(attention)
    assert {kind for name, kind in found.items() if name not in attention} == {BODY}


def test_pooled_features_stay_float():
    assert roles_within(PooledBias()) == {'a': BODY, 'context': FLOAT}


class Tokens(nn.Module):
    """A block of a transformer: window attention in one of several ways, and an MLP."""

    def __init__(self, way):
        super().__init__()
        self.way, self.n1, self.n2 = way, nn.LayerNorm(C), nn.LayerNorm(C)
        self.qkv, self.proj, self.values = nn.Linear(C, 3 * C), nn.Linear(C, C), conv(groups=C)
        self.fc1, self.dw, self.fc2 = nn.Linear(C, 2 * C), conv(2 * C, 2 * C, groups=2 * C), nn.Linear(2 * C, C)
        self.mha = nn.MultiheadAttention(C, 2, batch_first=True)

    def attend(self, x):
        if self.way == 'mha':
            return self.mha(x, x, x)[0]
        if self.way == 'functional':  # the layer lends its weight
            q, k, v = F.linear(x, self.qkv.weight, self.qkv.bias).chunk(3, -1)
        else:
            q, k, v = self.qkv(x).chunk(3, -1)
        if self.way == 'sdpa':
            return self.proj(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])
        if self.way == 'einsum':
            weights = torch.einsum('bnc,bmc->bnm', q, k).softmax(-1)
            return self.proj(torch.einsum('bnm,bmc->bnc', weights, v))
        result = (q * C**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v
        if self.way == 'with convolved values':
            result = result + self.values(v.reshape(len(x), 8, 8, C).permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        return self.proj(result)

    def forward(self, x):
        side = x.shape[-1]
        windows = F.pixel_unshuffle(x, side // 8).view(len(x), C, -1, 64).permute(0, 2, 3, 1).reshape(-1, 64, C)
        windows = windows + self.attend(self.n1(windows))
        x = windows.view(len(x), -1, 64, C).permute(0, 3, 1, 2).reshape(len(x), -1, 8, 8)
        tokens = F.pixel_shuffle(x, side // 8).flatten(2).transpose(1, 2)
        hidden = F.gelu(self.fc1(self.n2(tokens))).transpose(1, 2).unflatten(2, (side, side))
        tokens = tokens + self.fc2(self.dw(hidden).flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, (side, side))


@pytest.mark.parametrize('way', ['plain', 'sdpa', 'einsum', 'functional', 'mha', 'with convolved values'])
def test_windows_are_attention_and_the_mlp_is_body(way):
    found = roles_within(Tokens(way))
    assert {name for name, kind in found.items() if kind == BODY} == {'fc1', 'dw', 'fc2'}
    runs = {'functional': ['proj'], 'mha': [], 'with convolved values': ['proj', 'qkv', 'values']}
    expected = runs.get(way, ['proj', 'qkv'])
    assert sorted(name for name, kind in found.items() if kind == ATTENTION) == expected


def test_a_trunk_that_runs_through_products_still_has_a_body():
    class Star(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.a, self.b, self.c, self.tail = conv(3), conv(), conv(), conv(), conv(C, 3)

        def forward(self, x):
            x = self.head(x)
            return self.tail(self.a(x) * self.b(x) * self.c(x))

    assert layers_of(roles(Star()), BODY) == ['a', 'b', 'c']


def test_results_in_mappings_and_lists_count():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.main = Around(conv())

        def forward(self, x):
            return {'sr': self.main(x), 'lr': [x, None]}

    assert layers_of(roles(Two()), BODY) == ['main.blocks.0', 'main.after']


# -- layers that cannot be quantized ---------------------------------------------------------------------------------


def test_layers_of_other_classes_and_computed_weights_stay_float():
    class Own(nn.Conv2d):
        pass

    normed, parametrized = conv(), nn.utils.parametrizations.weight_norm(conv())
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(normed)
    found = roles(Around(Own(C, C, 3, padding=1), normed, parametrized))
    assert found['blocks.0'].why == 'no quantized layer stands for a Own'
    assert found['blocks.1'].why == 'its weight is computed'
    assert found['blocks.2'].kind == FLOAT and 'ParametrizedConv2d' in found['blocks.2'].why


# -- batch normalization ---------------------------------------------------------------------------------------------


class WithNorms(nn.Module):
    """Layers in front of batch norms, and what is not quite that."""

    def __init__(self):
        super().__init__()
        for name in 'abcdefgh':
            self.add_module(name, nn.Conv2d(3, 3, 3, padding=1))
            self.add_module(f'{name}_norm', nn.BatchNorm2d(3, track_running_stats=name != 'e'))
        self.linear, self.linear_norm = nn.Linear(64, 64), nn.BatchNorm2d(3)
        self.last = nn.Conv2d(3, 3, 1)
        self.last_norm = nn.BatchNorm2d(3)

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
        last = self.last(x)  # given back, too
        return self.linear_norm(self.linear(x)).detach(), last, self.last_norm(last)


@pytest.mark.parametrize('gradient', [True, False])
def test_batch_norms_that_alone_read_a_result(gradient):
    model = WithNorms().train().requires_grad_(gradient)
    model.c.eval()
    flow, names = look(model), [*'abcdefgh', 'linear', 'last']
    assert batch_norms_behind(model, flow, names) == {'a': 'a_norm', 'd': 'd_norm'}
    assert batch_norms_behind(model, flow, 'bd') == {'d': 'd_norm'}
    assert model.training and not model.c.training and model.d.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert (model.a_norm.running_var == 1).all() and model.a_norm.num_batches_tracked == 0


def test_reads_of_tensors_that_are_gone_do_not_count():
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

    net, names = AfterOthers(), [f'convs.{index}' for index in range(8)]
    assert list(batch_norms_behind(net, look(net), names)) == names
