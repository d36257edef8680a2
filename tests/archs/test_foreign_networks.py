"""The wrapper around networks that no profile names: modules, other ranges of values, results that hold the image."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.value_range import shown_value_range, value_range_hint
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.training.calibration import Calibration

W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
C = 8


class Plain(nn.Module):
    """Works on images in 0 .. span around their mean, and gives what ``give`` makes of the result."""

    def __init__(self, span=1.0, give=lambda x, y: y, image=3):
        super().__init__()
        self.span, self.give = span, give
        self.head, self.a, self.b, self.up = (nn.Conv2d(*io, 3, padding=1) for io in (
            (image, C), (C, C), (C, C), (C, 4 * image)))  # fmt: skip
        with torch.no_grad():
            for layer in (self.head, self.a, self.b, self.up):
                layer.bias.mul_(span)

    def forward(self, x):
        y = self.head(x - self.span / 2)
        y = y + self.b(self.a(y).relu())
        return self.give(x, F.pixel_shuffle(self.up(y), 2) + self.span / 2)


class Recursive(Plain):
    """One convolution runs three times, on different inputs."""

    def forward(self, x):
        y = self.head(x)
        for _ in range(3):
            y = y + self.a(y).relu()
        return F.pixel_shuffle(self.up(self.b(y)), 2)


def seeded(kind, *args, **options):
    torch.manual_seed(0)
    return kind(*args, **options)


def quantized(net, images, policy=None, quantization=W4A4, **options):
    net = QuantizedSR(net, quantization, policy or {'type': 'AdaBM'}, **options).eval()
    calibration = Calibration(net)
    calibration.observe(images)
    calibration.finish()
    return net


def test_a_module_is_taken_over(images):
    module = seeded(Plain)
    expected = module(images)
    net = quantized(module, images)
    assert net.backbone is module and net.plan.adaptive == ('a', 'b')
    assert torch.equal(net(images, mode=Mode.FLOAT), expected) and not torch.equal(net(images), expected)
    assert (net.input_channels, net.scale, net.sizes.multiple) == (3, 2, 1)
    assert net.description['backbone'] == {'type': 'Module', 'class': f'{__name__}.Plain'}
    with pytest.raises(DynqError, match=r"module of the class '.*Plain', which no option file builds"):
        QuantizedSR(**net.description)


@torch.no_grad()
def test_the_same_class_takes_its_checkpoint(images):
    net = quantized(seeded(Plain, 255.0), images, value_range=255)
    description = net.description
    again = QuantizedSR(
        Plain(255.0), description['quantization'], description['policy'], description['value_range'],
        description['output'],
    ).eval()  # fmt: skip
    assert again.description == description
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(images), net(images))


@torch.no_grad()
def test_images_come_and_go_in_0_to_1_whatever_the_backbone_works_on(images):
    small, large = quantized(seeded(Plain), images), quantized(seeded(Plain, 255.0), images, value_range=255)
    for mode in (Mode.FLOAT, Mode.TRAINING, Mode.EXACT):
        one, other = (net.train(mode is Mode.TRAINING)(images, mode=mode) for net in (small, large))
        # the same weights on a grid that is 255 times as coarse
        torch.testing.assert_close(one, other, rtol=0, atol=2e-2 if mode is not Mode.FLOAT else 1e-5)
        small.eval(), large.eval()
    assert torch.equal(large(images), large(images.contiguous(memory_format=torch.channels_last)))
    assert large.description['value_range'] == 255 and small.description['value_range'] == 1


@torch.no_grad()
def test_a_trained_network_shows_its_range():
    class Learning(nn.Module):
        """Enlarges once it has learned to; works on 0 .. 255 then."""

        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = F.interpolate(self.first(x), scale_factor=2, mode='bicubic')
            return self.last(y.clamp(10, 270)) - 20

    net = seeded(Learning)
    wrapped = QuantizedSR(net)
    assert shown_value_range(net, wrapped.image_format) is None and not wrapped.image_format.certain
    for layer in (net.first, net.last):
        nn.init.dirac_(layer.weight)
        nn.init.constant_(layer.bias, 10.0)
    assert wrapped.image_format.value_range == 1 and shown_value_range(net, wrapped.image_format) == 255
    assert value_range_hint(net, wrapped.image_format) == (
        'Learning works on values from 0 to 255, as what it makes of a smooth image shows, but 0 to 1 was assumed; set '
        'network_g.value_range: 255.'
    )
    given = QuantizedSR(net, value_range=1).image_format
    assert value_range_hint(net, given) == ''
    again = QuantizedSR(net)
    assert again.image_format.certain and again.image_format.value_range == again.description['value_range'] == 255
    assert value_range_hint(net, again.image_format) == ''


@torch.no_grad()
@pytest.mark.parametrize('give, output', [
    (lambda x, y: (y, x), 0), (lambda x, y: {'lr': x, 'sr': y}, 'sr'), (lambda x, y: [None, y], 1),
])  # fmt: skip
def test_the_image_among_the_results_is_taken(give, output, images):
    net, plain = quantized(seeded(Plain, give=give), images), quantized(seeded(Plain), images)
    assert net.description['output'] == output and plain.description['output'] is None
    for mode in Mode:
        assert torch.equal(net(images, mode=mode), plain(images, mode=mode))
    with pytest.raises(DynqError, match='^output: Plain gives no entry 7; there are '):
        QuantizedSR(Plain(give=give), output=7)


@torch.no_grad()
def test_u_nets_take_images_of_any_size(images):
    class UNet(Plain):
        def forward(self, x):
            y = self.head(x)
            z = F.interpolate(self.a(F.avg_pool2d(y, 4)).relu(), scale_factor=4)
            return F.pixel_shuffle(self.up(y + self.b(z)), 2)

    net = quantized(seeded(UNet), images)
    assert net.sizes.multiple == 4 and net.plan.adaptive == ('a', 'b')
    assert net(images[..., :13, :15]).shape == (4, 3, 26, 30)


def test_options_of_architectures_without_a_profile(images):
    class Spelled(Plain):
        """Names its channels in a way of its own, and takes whatever else there is."""

        def __init__(self, in_nc, **others):
            super().__init__(image=in_nc)

    ARCH_REGISTRY._do_register('Spelled', Spelled)
    try:
        net = quantized({'type': 'Spelled', 'in_nc': 1, 'upscale': 2}, images[:, :1])
        assert net.input_channels == 1 and net(images[:, :1]).shape[1] == 1
        again = QuantizedSR(**net.description)
        assert again.description == net.description
    finally:
        del ARCH_REGISTRY._obj_map['Spelled']


# -- layers that run more than once ----------------------------------------------------------------------------------


def test_a_layer_that_runs_more_than_once_has_one_range_for_all_its_inputs(images):
    net = quantized(seeded(Recursive), images, {'type': 'Fixed'}, {'weight': {'bits': 8}, 'activation': {'bits': 8}})
    assert net.plan.adaptive == ('a', 'b') and net.plan.runs['a'] == 3 and net.image_format.repeated == ('a',)
    assert next(line for line in net.layer_table().splitlines() if line.startswith('a ')).split()[-1] == '3'
    largest = []
    net.backbone.a.register_forward_pre_hook(lambda layer, inputs: largest.append(float(inputs[0].detach().max())))
    net(images, mode=Mode.FLOAT)
    assert len(largest) == 3 and largest[0] < 0.9 * largest[2]
    grids = []
    net.backbone.a.register_forward_pre_hook(lambda *_: grids.append(net.holder.run.grids[net.backbone.a.position]))
    net(images)
    scale, low, high = grids[0]
    assert all(torch.equal(grid, grids[0]) for grid in grids) and float(scale * high) > 0.95 * largest[2]


def test_such_a_layer_trains(images):
    net = quantized(seeded(Recursive), images)
    before = deepcopy(net.state_dict())
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    losses = []
    target = net(images, mode=Mode.FLOAT).detach()
    for _ in range(8):
        optimizer.zero_grad()
        loss = (net.train()(images) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    for name in ('backbone.a.weight', 'backbone.a.activation_range.log_upper', 'backbone.a.weight_range.log_upper'):
        assert not torch.equal(net.state_dict()[name], before[name])
    net.eval()
    torch.testing.assert_close(net(images), net(images, mode=Mode.TRAINING), rtol=1e-4, atol=1e-4)


# -- attention of PyTorch's own --------------------------------------------------------------------------------------


@torch.no_grad()
def test_multihead_attention_runs_in_parts_where_sums_are_exact(images):
    class Attending(Plain):
        def __init__(self):
            super().__init__()
            self.mha = nn.MultiheadAttention(C, 2, batch_first=True)

        def forward(self, x):
            y = self.a(self.head(x)).relu()
            tokens = y.flatten(2).transpose(1, 2)
            y = y + self.mha(tokens, tokens, tokens, need_weights=False)[0].transpose(1, 2).reshape(y.shape)
            return F.pixel_shuffle(self.up(self.b(y)), 2)

    net = quantized(seeded(Attending), images)
    assert net.plan.adaptive == ('a', 'b')
    before = torch.backends.mha.get_fastpath_enabled()
    seen = []
    net.backbone.a.register_forward_hook(lambda *_: seen.append(torch.backends.mha.get_fastpath_enabled()))
    exact = net(images)
    net(images, mode=Mode.FLOAT)
    assert seen == [False, before] and torch.backends.mha.get_fastpath_enabled() == before
    torch.testing.assert_close(exact, net(images, mode=Mode.TRAINING), rtol=1e-4, atol=1e-5)


# -- policies that look at the head ----------------------------------------------------------------------------------


def test_an_activation_in_place_behind_the_head_does_not_disturb_the_policys_gradient(images):
    class InPlace(Plain):
        def forward(self, x):
            y = F.leaky_relu_(self.head(x), 0.1)
            return F.pixel_shuffle(self.up(y + self.b(self.a(y).relu())), 2)

    quantization = {'weight': {'bits': 8}, 'activation': {'bits': 8}}
    net = quantized(seeded(InPlace), images, {'type': 'GranularDQ'}, quantization)
    assert net.plan.head == 'head'
    net.train()(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.policy.parameters())
