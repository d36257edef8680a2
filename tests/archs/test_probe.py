"""What networks take and give, found by running them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dynq_basicsr.archs.probe import Probed, probe
from dynq_basicsr.errors import DynqError


class Bicubic(nn.Module):
    """Enlarges, in a range of values of its own: a network that has learned it."""

    def __init__(self, scale=2, span=1.0, channels=3, image=3):
        super().__init__()
        self.scale, self.span = scale, span
        self.first = nn.Conv2d(channels, channels, 1)
        self.last = nn.Conv2d(channels, image, 1)
        with torch.no_grad():
            for layer in (self.first, self.last):
                layer.weight.copy_(torch.eye(len(layer.weight), channels)[..., None, None])
                layer.bias.fill_(0.05 * span)

    def forward(self, x):
        y = F.interpolate(self.first(x), scale_factor=self.scale, mode='bicubic')
        return self.last(y.clamp(0.05 * self.span, 1.05 * self.span)) - 0.1 * self.span


class Giving(nn.Module):
    """Gives what a function makes of image and enlargement."""

    def __init__(self, give, **options):
        super().__init__()
        self.inner, self.give = Bicubic(**options), give

    def forward(self, x):
        return self.give(x, self.inner(x))


class Wanting(nn.Module):
    """Works on images of certain sides alone."""

    def __init__(self, wants, **options):
        super().__init__()
        self.inner, self.wants = Bicubic(**options), wants

    def forward(self, x):
        if not all(self.wants(side) for side in x.shape[2:]):
            raise ValueError('a size that I do not take')
        return self.inner(x)


@pytest.mark.parametrize('span', [1.0, 255.0])
@pytest.mark.parametrize('scale', [1, 2, 3])
def test_scale_and_value_range(scale, span):
    found = probe(Bicubic(scale, span))
    assert found == Probed(3, 3, scale, span) and found.certain and found.deterministic
    assert probe(Bicubic(scale, span), value_range=7.0) == Probed(3, 3, scale, 7.0)


@pytest.mark.parametrize('channels, image', [(1, 1), (3, 1), (1, 3), (4, 4), (12, 3)])
def test_channels(channels, image):
    net = Bicubic(channels=channels, image=image)
    found = probe(net)
    assert (found.in_channels, found.out_channels) == (channels, image)
    assert probe(nn.Sequential(nn.PixelUnshuffle(2), Bicubic(4, channels=12))).in_channels == 3


def test_an_untrained_network_does_not_show_its_range():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2))
    assert probe(net) == Probed(3, 3, 2, 1.0, certain=False)

    class Skipping(nn.Module):
        """Whose biases are all that is wrong with it: the closer to the enlargement, the larger the values are."""

        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 3, 1)
            nn.init.zeros_(self.first.weight)
            nn.init.ones_(self.first.bias)

        def forward(self, x):
            return F.interpolate(x + self.first(x), scale_factor=2, mode='bicubic')

    assert probe(Skipping()) == Probed(3, 3, 2, 1.0, certain=False)


@pytest.mark.parametrize('wants, multiple, minimum', [
    (lambda side: True, 1, 1), (lambda side: side % 2 == 0, 2, 2), (lambda side: side % 8 == 0, 8, 8),
    (lambda side: side % 7 == 0, 7, 7), (lambda side: side % 24 == 0, 24, 24), (lambda side: side % 64 == 0, 64, 64),
    (lambda side: side >= 16, 1, 16), (lambda side: side % 4 == 0 and side >= 13, 4, 16),
    (lambda side: side >= 50, 1, 64),
])  # fmt: skip
def test_sizes(wants, multiple, minimum):
    found = probe(Wanting(wants))
    assert (found.multiple, found.minimum) == (multiple, minimum) and wants(found.sizes.padded(5))


def test_a_network_that_crops_nothing_wants_multiples():
    class Padded(Bicubic):
        def forward(self, x):
            return super().forward(F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4)))

    assert probe(Padded()).multiple == 4


@pytest.mark.parametrize('give, output', [
    (lambda x, y: y, None), (lambda x, y: (y,), 0), (lambda x, y: [x, y], 1), (lambda x, y: (y, x), 0),
    (lambda x, y: {'lr': x, 'sr': y}, 'sr'), (lambda x, y: (y.mean(), y, 'text', None), 1),
    (lambda x, y: (torch.cat([y, y], 1), y), 1), (lambda x, y: (y + 1, y), 1),
])  # fmt: skip
def test_which_entry_of_the_result_is_the_image(give, output):
    found = probe(Giving(give))
    assert found.output == output and found.scale == 2 and found.value_range == 1
    result = Giving(give)(torch.rand(1, 3, 8, 8))
    assert found.pick(result).shape == (1, 3, 16, 16)


def test_a_given_entry_is_taken():
    assert probe(Giving(lambda x, y: {'lr': x, 'sr': y}), output='lr').scale == 1
    with pytest.raises(DynqError, match="^output: Giving gives no entry 'hr'; there are 'lr', 'sr'"):
        probe(Giving(lambda x, y: {'lr': x, 'sr': y}), output='hr')
    with pytest.raises(DynqError, match='^output: Giving gives no entry 5; there are 0, 1'):
        probe(Giving(lambda x, y: (x, y)), output=5)
    for output in (0, 1, 5, 'x'):
        with pytest.raises(DynqError, match=f'^output: Bicubic gives one tensor, which has no entry {output!r}'):
            probe(Bicubic(), output=output)


def test_what_runs_more_than_once_and_what_differs():
    class Recursive(Bicubic):
        def forward(self, x):
            return super().forward(x) * 0 + super().forward(x + 0)

    assert probe(Recursive()).repeated == ('first', 'last')
    assert not probe(Giving(lambda x, y: y + torch.rand_like(y) / 100)).deterministic


def test_the_network_is_as_before():
    class Counting(Bicubic):
        def __init__(self):
            super().__init__()
            self.register_buffer('calls', torch.zeros(()))
            self.dropout = nn.Dropout(0.5)

        def forward(self, x):
            self.calls += 1
            return self.dropout(super().forward(x))

    net = Counting().train()
    net.first.eval()
    assert probe(net).deterministic
    assert net.calls == 0 and net.training and net.dropout.training and not net.first.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


class TwoInputs(nn.Module):
    def forward(self, image, noise):
        return image


@pytest.mark.parametrize('net, said', [
    (TwoInputs(), r'TwoInputs: takes 2 inputs \(image, noise\), not one image'),
    (nn.Conv2d(3, 3, 3, stride=2, padding=1), r'Conv2d: maps no image of 3 or 1 channels .* it makes 1 x 3 x 12 x 13'),
    (nn.Sequential(nn.Conv2d(3, 8, 1), nn.Flatten(1)), r'of 1 x 3 x 24 x 25 it makes 1 x 4800'),
    (Giving(lambda x, y: None), 'it gives nothing that is a tensor'),
    (Giving(lambda x, y: 1 / 0), r'it fails with ZeroDivisionError \(division by zero\)'),
    (Giving(lambda x, y: F.interpolate(y, (48, 48))), 'whole multiple'),
    (nn.Upsample(scale_factor=(2, 1)), 'it makes 1 x 3 x 48 x 25'),
])  # fmt: skip
def test_networks_of_another_kind_are_told_apart_in_one_sentence(net, said):
    with pytest.raises(DynqError, match=said) as caught:
        probe(net)
    assert '\n' not in str(caught.value) and str(caught.value).endswith('.') and len(str(caught.value)) < 400


def test_the_summary_is_one_line():
    found = Probed(3, 1, 4, 255.0, False, 8, 16, 'sr', ('a', 'b', 'c', 'd'), False)
    assert found.summary() == (
        'images of 3 channels to 1, scale 4, values 0 to 255 (assumed: it does not show), sides multiples of 8 from 16 '
        "pixels, the image is entry 'sr' of the result, 4 layers run more than once (a, b, c, ...), two runs differ"
    )
    plain = Probed(3, 3, 2, minimum=8).summary()
    assert plain == 'images of 3 channels to 3, scale 2, values 0 to 1, sides from 8 pixels'
