"""What a network takes and gives, found by running it on small images."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynq_basicsr.archs.padding import SizeRequirement
from dynq_basicsr.archs.self_padding import own_multiple
from dynq_basicsr.archs.trial import VALUE_RANGES, Trial
from dynq_basicsr.errors import DynqError
from dynq_basicsr.quantization.data_flow import evaluating


@dataclass(frozen=True)
class Probed:
    """What a network takes and gives.

    Attributes:
        in_channels: Channels of the image that it takes.
        out_channels: Of the image that it gives.
        scale: How many times as large that is, on each side.
        value_range: Images are 0 .. this, both; 1 or 255.
        certain: Whether the network shows that: an untrained one does not.
        multiple: Of what the sides of an image must be multiples, or what they would be padded to within, in pixels.
        minimum: The least side.
        output: Which entry of its result is the image: an index of a sequence, a key of a mapping; None: the result is.
        repeated: Names of the modules with parameters that run more than once.
        deterministic: Whether it gives the same again.
    """

    in_channels: int
    out_channels: int
    scale: int
    value_range: float = 1.0
    certain: bool = True
    multiple: int = 1
    minimum: int = 1
    output: int | str | None = None
    repeated: tuple[str, ...] = ()
    deterministic: bool = True

    @property
    def sizes(self) -> SizeRequirement:
        """What sides of images it takes."""
        return SizeRequirement(self.multiple, self.minimum)

    def pick(self, result: object) -> Tensor:
        """The image among what the network gives."""
        return result if self.output is None else result[self.output]

    def summary(self) -> str:
        """One line for the log."""
        parts = [
            f'images of {self.in_channels} channels to {self.out_channels}',
            f'scale {self.scale}',
            f'values 0 to {self.value_range:g}{"" if self.certain else " (assumed: it does not show)"}',
        ]
        if max(self.multiple, self.minimum) > 1:
            multiples = f' multiples of {self.multiple}' if self.multiple > 1 else ''
            parts.append(f'sides{multiples} from {self.minimum} pixels')
        if self.output is not None:
            parts.append(f'the image is entry {self.output!r} of the result')
        if self.repeated:
            others = ', ...' if len(self.repeated) > 3 else ''
            parts.append(f'{len(self.repeated)} layers run more than once ({", ".join(self.repeated[:3])}{others})')
        if not self.deterministic:
            parts.append('two runs differ')
        return ', '.join(parts)


@torch.no_grad()
def probe(
    net: nn.Module,
    in_channels: int | None = None,
    value_range: float | None = None,
    output: int | str | None = None,
    name: str = '',
) -> Probed:
    """Run a float network on small images and find out what it takes and gives.

    It runs in eval mode, where it is; modes, hooks and buffers are afterwards as before.

    Args:
        net: Any network from images (N, C, H, W) to images (N, C', s * H, s * W).
        in_channels: Channels of the image that it takes; None: tried.
        value_range: Images are 0 .. this; None: found by what it makes of a smooth image.
        output: Which entry of its result is the image; None: found.
        name: What to call it in errors; empty: its class.

    Raises:
        DynqError: If it is no such network; says what it does instead.
    """
    name = name or type(net).__name__
    _check_inputs(net, name)
    with evaluating(net), _buffers_kept(net):
        trial = Trial(net, name, output)
        channels, multiple, sides = trial.find_input(in_channels)
        first, again = (trial.run(trial.image(channels, *sides)) for _ in range(2))
        ranges = VALUE_RANGES if value_range is None else (value_range,)
        span, certain = trial.find_range(channels, multiple, ranges)
        minimum = trial.find_minimum(channels, multiple, sides[0])
        own = own_multiple(net, channels, SizeRequirement(multiple, minimum))
        return Probed(
            in_channels=channels,
            out_channels=first.shape[1],
            scale=trial.scale,
            value_range=span,
            certain=certain,
            multiple=math.lcm(multiple, own),
            minimum=minimum,
            output=trial.output,
            repeated=tuple(trial.repeated),
            deterministic=torch.equal(first, again),
        )


def _check_inputs(net: nn.Module, name: str) -> None:
    """Refuse networks that want more than an image."""
    try:
        parameters = inspect.signature(net.forward).parameters.values()
    except (TypeError, ValueError):  # compiled
        return
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one.name for one in parameters if one.default is one.empty and one.kind in plain]
    needed += [one.name for one in parameters if one.default is one.empty and one.kind is one.KEYWORD_ONLY]
    if len(needed) > 1:
        raise DynqError(
            f'{name}: takes {len(needed)} inputs ({", ".join(needed[:4])}), not one image; wrap it in a module that '
            'takes an image alone.'
        )


@contextmanager
def _buffers_kept(net: nn.Module) -> Iterator[None]:
    kept = [(buffer, buffer.clone()) for buffer in net.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
