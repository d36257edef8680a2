"""``network_g.quantization``: bits and grids of weights and activations."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.section import Section
from dynq_basicsr.config.values import Bits, Patterns, Text, or_empty

FLOAT_BITS = 32
# Of head, upsampler and tail in scope full (AdaBM, section 4.3).
END_BITS = 8

Grid = Literal['integer', 'literal']


class WeightOptions(Section):
    """How weights are quantized."""

    section: ClassVar[str] = 'network_g.quantization.weight'

    bits: Bits = Field(FLOAT_BITS, description='Bits of weights.')
    granularity: Literal['tensor', 'channel'] = Field(
        'tensor', description='One clipping bound a tensor, or one an output channel.'
    )
    grid: Grid = Field('integer', description="Integers times a scale, or the papers' literal formula.")
    rounding: Literal['nearest', 'learned'] = Field(
        'nearest',
        description='Learned: fine-tuning moves each weight before it is rounded, so that the errors of a layer can '
        'make up for each other (the aim of AdaRound, Nagel et al., ICML 2020).',
    )

    @property
    def per_channel(self) -> bool:
        """True for one range per output channel."""
        return self.granularity == 'channel'


class ActivationOptions(Section):
    """How activations are quantized."""

    section: ClassVar[str] = 'network_g.quantization.activation'

    bits: Bits = Field(FLOAT_BITS, description='Base bits of activations.')
    bits_range: tuple[Bits, Bits] = Field((2, 8), description='Lowest and highest bits that adaptive bits get.')
    grid: Grid = Field('integer', description="Integers times a scale, or the papers' literal formula.")
    quantizer: Text = Field(
        'range',
        description='range: one lower and upper bound for all bits (AdaBM); learned_range: a pair a bit-width; '
        'learned_step: one step a bit-width (QuantSR); pams: likewise, symmetric; or one of a plug-in.',
    )

    @model_validator(mode='after')
    def _check(self) -> Self:
        low, high = self.bits_range
        if self.bits != FLOAT_BITS and not low <= self.bits <= high <= 8:
            raise wrong('bits_range', f'[{low}, {high}] must lie in 2..8 and hold the base bits {self.bits}.')
        return self


class QuantizationOptions(Section):
    """What is quantized, and how."""

    section: ClassVar[str] = 'network_g.quantization'

    weight: or_empty(WeightOptions) = Field(WeightOptions(), description='Weights; their bits are fixed.')
    activation: or_empty(ActivationOptions) = Field(ActivationOptions(), description='Activations; their bits adapt.')
    layers: Patterns = Field(
        (),
        description="Layers to quantize: class name, exact name, or re:PATTERN; none: those of the backbone's profile.",
    )
    exclude: Patterns = Field((), description='Layers to leave float after all, likewise.')
    scope: Literal['body', 'full'] = Field(
        'body',
        description='body: head, upsampler and tail stay float; full: they get 8 bits, and the convolutions between '
        'the blocks and the upsampler adapt ("fully quantized").',
    )
    rounding_gradient: Literal['identity', 'tanh'] = Field(
        'identity', description='Gradient of rounding: straight-through, or tanh (QuantSR).'
    )

    @property
    def enabled(self) -> bool:
        """False when weights and activations are both float (32 bits): nothing is quantized then."""
        return (self.weight.bits, self.activation.bits) != (FLOAT_BITS, FLOAT_BITS)

    @property
    def integer(self) -> bool:
        """Whether a layer multiplies whole numbers, each operand times its scale."""
        return all(one.bits != FLOAT_BITS and one.grid == 'integer' for one in (self.weight, self.activation))

    @property
    def ends(self) -> QuantizationOptions:
        """What head, upsampler and tail get in scope ``full``: 8 bits, and float where the body's part is float."""

        def bits(of_body: int) -> int:
            return FLOAT_BITS if of_body == FLOAT_BITS else END_BITS

        activation = self.activation.model_copy(
            update={'bits': bits(self.activation.bits), 'bits_range': (END_BITS, END_BITS)}
        )
        weight = self.weight.model_copy(update={'bits': bits(self.weight.bits)})
        return self.model_copy(update={'weight': weight, 'activation': activation})
