"""A network on small images: what it takes, and which part of what it gives is an image."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynq_basicsr.errors import DynqError, shown

# Of what sides may have to be multiples: powers of two, of halving, and the windows of transformers.
_MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 96, 128)
_SIDES = (24, 72)  # sides of images for a trial are at least the first of these that is taken
VALUE_RANGES = (1.0, 255.0)  # that images come in
# Far too large for any network. One that has not learned its biases yet comes the closer, the larger values are.
_ABSURD_RANGE = 255.0**2
# How far a trained network may be from a smooth image's plain enlargement, relative to the image's contrast, and by
# how much closer it must be in its own range of values than in another. Trained networks: 0.003 to 0.015 (0.1 to 2 in
# the wrong one of the two), at least 2.5 times closer.
_NEAR, _CLEARLY = 0.05, 1.5


def _sides(multiple: int, least: int) -> tuple[int, int]:
    """Two sides whose greatest common divisor is ``multiple``: whoever takes both wants no more than that."""
    count = -(-least // multiple)
    return multiple * count, multiple * (count + 1)


class Refused(Exception):
    """The network does not take an image, or does not give one; the text says what it does."""


class Trial:
    """Runs a network, and remembers what is known of it so far.

    Attributes:
        scale: Of the last image that came out; 0: none yet.
        output: Which entry it was.
        repeated: Names of modules that ran more than once in a run.
    """

    def __init__(self, net: nn.Module, name: str, output: int | str | None) -> None:
        self.net, self.name = net, name
        self.scale, self.output, self.repeated = 0, output, []
        self._given = output is not None
        tensor = next(iter(net.parameters()), next(iter(net.buffers()), torch.zeros(())))
        self._like = tensor if tensor.is_floating_point() else torch.zeros((), device=tensor.device)

    def image(self, channels: int, height: int, width: int) -> Tensor:
        """A smooth image of some contrast, (1, C, H, W) in [0, 1]: what is common to natural ones."""
        rows, columns = (torch.linspace(0, math.pi, side) for side in (height, width))
        waves = [
            0.5 + 0.3 * torch.sin(rows[:, None] * down + phase) * torch.cos(columns * across - phase)
            for down, across, phase in ((1.0, 1.5, 0.3), (1.2, 1.3, 0.5), (0.9, 1.6, 0.1))
        ]
        return torch.stack([waves[index % 3] for index in range(channels)])[None].to(self._like)

    def run(self, image: Tensor) -> Tensor:
        """The image that it makes.

        Raises:
            Refused: If it makes none.
        """
        counts: Counter[str] = Counter()
        hooks = [
            module.register_forward_pre_hook(lambda *_, name=name: counts.update((name,)))
            for name, module in self.net.named_modules()
            if next(module.parameters(recurse=False), None) is not None
        ]
        try:
            result = self.net(image)
        except Exception as error:  # whatever a stranger's code raises
            reason = ' '.join(str(error).split()).rstrip('.')[:160]
            raise Refused(f'it fails with {type(error).__name__}{f" ({reason})" if reason else ""}') from error
        finally:
            for hook in hooks:
                hook.remove()
        self.repeated = [name for name, count in counts.items() if count > 1]
        return self._image_in(result, image)

    def _image_in(self, result: object, image: Tensor) -> Tensor:
        entries = _entries(result)
        if self._given:
            entries = {self.output: self._entry(entries)}
        found = {key: scale for key, value in entries.items() if (scale := _scale_of(value, image))}
        if not found:
            raise Refused(_what(entries, image))

        def rank(key: int | str | None) -> tuple[int, bool]:
            return found[key], entries[key].shape[1] == image.shape[1]

        largest = max(map(rank, found))
        self.output = [key for key in found if rank(key) == largest][-1]
        self.scale = found[self.output]
        return entries[self.output]

    def _entry(self, entries: Mapping) -> Tensor:
        """The entry of the result that the user named, which no other image would change."""
        if None in entries:
            what = f'one tensor, which has no entry {shown(self.output)}'
            raise DynqError(f'output: {self.name} gives {what}; leave it out.')
        if self.output not in entries:
            known = ', '.join(map(shown, entries)) or 'none that is a tensor'
            raise DynqError(f'output: {self.name} gives no entry {shown(self.output)}; there are {known}.')
        return entries[self.output]

    def find_input(self, in_channels: int | None) -> tuple[int, int, tuple[int, int]]:
        """Channels of the image, the multiple of its sides, and two sides that are taken.

        Raises:
            DynqError: If no image is taken.
        """
        channels = [in_channels] if in_channels else self._likely_channels()
        reasons = []
        for multiple, least, count in product(_MULTIPLES, _SIDES, channels):
            sides = _sides(multiple, least)
            try:
                found = set()
                for one in (sides, sides[::-1]):
                    self.run(self.image(count, *one))
                    found.add((self.scale, self.output))
                if len(found) == 1:
                    return count, multiple, sides
                reasons.append('it enlarges images of two sizes by different factors')
            except Refused as error:
                reasons.append(f'{error}')
        tried = ' or '.join(map(str, channels))
        raise DynqError(
            f'{self.name}: maps no image of {tried} channels to one of a whole multiple of its sides: {reasons[0]}.'
        )

    def _likely_channels(self) -> list[int]:
        """Those of the first convolution if that takes an image, then 3, 1, and what it takes."""
        own = next((m.in_channels for m in self.net.modules() if isinstance(m, nn.Conv2d)), 3)
        first = [own] if own in (1, 3) else []
        return list(dict.fromkeys([*first, 3, 1, own]))

    def find_minimum(self, channels: int, multiple: int, largest: int) -> int:
        """The least side that is taken: the multiple times a power of two, at most ``largest``, which is taken."""
        known = self.scale, self.output, self.repeated
        side = multiple
        while side < largest:
            try:
                self.run(self.image(channels, side, side))
                if self.scale == known[0]:
                    break
            except Refused:
                pass
            side *= 2
        self.scale, self.output, self.repeated = known
        return min(side, largest)

    def find_range(self, channels: int, multiple: int, ranges: Sequence[float]) -> tuple[float, bool]:
        """The range of values in which a smooth image comes out nearly as its enlargement, and whether that is clear.

        Where it is not, the first one is assumed.
        """
        if len(ranges) == 1:
            return ranges[0], True
        image = self.image(channels, *_sides(multiple, max(_SIDES)))
        errors = {}
        for span in (*ranges, _ABSURD_RANGE):
            try:
                errors[span] = _distance(self.run(image * span) / span, image)
            except Refused:
                errors[span] = math.inf
        best, *others = sorted(errors, key=errors.get)
        clear = errors[best] < _NEAR and all(errors[one] > _CLEARLY * errors[best] for one in others)
        return (best, True) if clear and best in ranges else (ranges[0], False)


def _distance(result: Tensor, image: Tensor) -> float:
    """How far a result is from the image's enlargement, relative to the image's contrast."""
    result, image = result.float(), image.float()
    expected = F.interpolate(image, result.shape[-2:], mode='bicubic')
    if result.shape[1] != image.shape[1]:
        result, expected = result.mean(1), expected.mean(1)
    border = max(result.shape[-1] // 12, 1)
    error = (result - expected)[..., border:-border, border:-border]
    distance = float(error.square().mean().sqrt() / expected.std())
    return distance if math.isfinite(distance) else math.inf


def _entries(result: object) -> dict[int | str | None, Tensor]:
    """The tensors among what a network gives, by index or key; under None where it gives one by itself."""
    if isinstance(result, Tensor):
        return {None: result}
    pairs: Sequence = ()
    if isinstance(result, Mapping):
        pairs = list(result.items())
    elif isinstance(result, list | tuple):
        pairs = list(enumerate(result))
    return {key: value for key, value in pairs if isinstance(value, Tensor) and isinstance(key, int | str)}


def _scale_of(result: Tensor, image: Tensor) -> int:
    """How many times as large an image is; 0: it is no image, or no whole multiple."""
    if result.dim() != 4 or len(result) != len(image) or not result.is_floating_point() or not result.numel():
        return 0
    (height, width), (across, along) = image.shape[-2:], result.shape[-2:]
    whole = across % height == 0 and along % width == 0 and across // height == along // width
    return across // height if whole else 0


def _what(entries: Mapping, image: Tensor) -> str:
    """What came out instead of an image."""
    if not entries:
        return 'it gives nothing that is a tensor'
    shapes = ', '.join(' x '.join(map(str, value.shape)) for value in list(entries.values())[:3])
    return f'of 1 x {image.shape[1]} x {image.shape[2]} x {image.shape[3]} it makes {shapes}'
