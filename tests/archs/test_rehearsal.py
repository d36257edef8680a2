"""What a network cannot do is found before it is calibrated."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.archs.rehearsal import InTrainingForm, rehearse
from dynq_basicsr.errors import DynqError

C = 8
W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}


class Partial(nn.Module):
    """A convolution of half of the channels, as in PLKSR."""

    def __init__(self, same=True):
        super().__init__()
        self.conv, self.same = nn.Conv2d(C // 2, C // 2, 3, padding=1), same

    def forward(self, x):
        if self.training and self.same is not None:
            one, other = x.split(C // 2, dim=1)
            return torch.cat((self.conv(one), other if self.same else -other), dim=1)
        x[:, : C // 2] = self.conv(x[:, : C // 2])
        return x


class Net(nn.Module):
    def __init__(self, middle=None):
        super().__init__()
        self.head, self.a, self.b, self.up = (nn.Conv2d(*io, 3, padding=1) for io in ((3, C), (C, C), (C, C), (C, 12)))
        self.middle = middle or nn.Identity()

    def forward(self, x):
        return F.pixel_shuffle(self.up(self.b(self.middle(self.a(self.head(x))))), 2)


class WithoutGradients(Net):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class OneByOne(Net):
    def forward(self, x):
        return super().forward(x.squeeze(0)[None])


class Rewriting(Net):
    def forward(self, x):
        self.a.weight.data = self.b.weight.data * 0.5
        return super().forward(x)


@pytest.fixture
def quantized():
    """Quantize a network, seeded."""

    def build(kind, *parts):
        torch.manual_seed(0)
        return QuantizedSR(kind(*parts), W4A4).eval().requires_grad_(False)

    return build


def test_nothing_stays_behind(quantized):
    net = quantized(Net)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    rehearse(net, gradient=True)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in net.parameters())
    assert not net.training and type(net.backbone) is Net


def test_modules_that_write_into_their_input_get_their_training_form(quantized):
    net = quantized(Net, Partial())
    image = torch.rand(1, 3, 16, 16)
    expected = net.run_backbone(image)
    rehearse(net, gradient=True)
    module = net.backbone.middle
    assert isinstance(module, InTrainingForm) and isinstance(module, Partial) and not module.training
    assert torch.equal(net.run_backbone(image), expected)
    net.backbone.requires_grad_(True)
    net.run_backbone(image).sum().backward()
    assert net.backbone.middle.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('kind, parts, named', [
    (Net, (Partial(same=None),), 'no gradient passes'), (Net, (Partial(same=False),), 'no gradient passes'),
    (WithoutGradients, (), 'WithoutGradients: no gradient passes through it .* take a method that only calibrates'),
    (OneByOne, (), r'OneByOne: fails on two images at once, .* write its forward for batches'),
    (Rewriting, (), r'a: its weight is written anew whenever Rewriting runs, so it cannot be quantized'),
])  # fmt: skip
def test_refused(quantized, kind, parts, named):
    with pytest.raises(DynqError, match=named):
        rehearse(quantized(kind, *parts), gradient=True)


@pytest.mark.parametrize('kind, parts', [(Net, (Partial(same=None),)), (WithoutGradients, ())])
def test_who_only_calibrates_needs_no_gradient(quantized, kind, parts):
    rehearse(quantized(kind, *parts), gradient=False)
