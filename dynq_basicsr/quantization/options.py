"""The ``quantization`` section of an option file as typed, checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from dynq_basicsr.errors import DynqError, check_choice, check_keys
from dynq_basicsr.numerics.fake_quantize import GRADIENTS
from dynq_basicsr.quantization.grids import GRIDS
from dynq_basicsr.quantization.quantizers import QUANTIZERS

FLOAT_BITS = 32
# Of head, upsampler and tail in scope full (AdaBM, section 4.3).
END_BITS = 8
SCOPES = ('body', 'full')


def check_bits(section: str, bits: object) -> int:
    """Return bits as an int, or refuse what is neither 2..8 nor 32 (float).

    Raises:
        DynqError: Names the section and the value.
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not (2 <= bits <= 8 or bits == FLOAT_BITS):
        raise DynqError(f'{section}: bits must be a whole number from 2 to 8, or 32 for float, not {bits!r}.')
    return bits


@dataclass(frozen=True)
class WeightOptions:
    """How weights are quantized.

    Attributes:
        bits: 2..8, or 32 for float.
        granularity: One clipping bound a ``tensor`` or an output ``channel``.
        grid: ``integer`` or ``literal``, see ``quantization/grids.py``.
        rounding: ``nearest``, or ``learned``: fine-tuning moves each weight before it is rounded, so that rounding
            errors of a layer can make up for each other (the aim of AdaRound, Nagel et al., ICML 2020).
    """

    bits: int = FLOAT_BITS
    granularity: str = 'tensor'
    grid: str = 'integer'
    rounding: str = 'nearest'

    def __post_init__(self) -> None:
        check_bits('quantization.weight.bits', self.bits)
        check_choice('quantization.weight.granularity', self.granularity, ('tensor', 'channel'))
        check_choice('quantization.weight.grid', self.grid, GRIDS)
        check_choice('quantization.weight.rounding', self.rounding, ('nearest', 'learned'))

    @property
    def per_channel(self) -> bool:
        """True for one range per output channel."""
        return self.granularity == 'channel'


@dataclass(frozen=True)
class ActivationOptions:
    """How activations are quantized.

    Attributes:
        bits: Base bits, 2..8, or 32 for float.
        bits_range: What adaptive bits are clamped to.
        grid: ``integer`` or ``literal``, see ``quantization/grids.py``.
        quantizer: ``range`` (a lower and an upper bound for all bits, AdaBM), ``learned_range`` (such a pair a
            bit-width), ``learned_step`` (one step a bit-width, QuantSR) or ``pams`` (likewise, symmetric).
    """

    bits: int = FLOAT_BITS
    bits_range: tuple[int, int] = (2, 8)
    grid: str = 'integer'
    quantizer: str = 'range'

    def __post_init__(self) -> None:
        section = 'quantization.activation'
        check_bits(f'{section}.bits', self.bits)
        if not isinstance(self.bits_range, list | tuple) or len(self.bits_range) != 2:
            raise DynqError(f'{section}.bits_range: expected [lowest, highest] bits, not {self.bits_range!r}.')
        low, high = (check_bits(f'{section}.bits_range', bits) for bits in self.bits_range)
        if self.bits != FLOAT_BITS and not low <= self.bits <= high <= 8:
            raise DynqError(
                f'{section}.bits_range: [{low}, {high}] must lie in 2..8 and hold the base bits {self.bits}.'
            )
        check_choice(f'{section}.grid', self.grid, GRIDS)
        if self.grid not in QUANTIZERS[self.quantizer].grids:
            raise DynqError(f'{section}.grid: {self.quantizer} has the integer grid only; leave grid out.')


@dataclass(frozen=True)
class QuantizationOptions:
    """The whole section.

    Attributes:
        weight: Static weight quantization.
        activation: Adaptive activation quantization.
        layers: Patterns of the layers to quantize (class name, exact name, or ``re:``); empty: the backbone's profile.
        exclude: Patterns of layers to leave float after all.
        scope: ``body``: head, upsampler and tail stay float; ``full``: they get 8 bits, and the convolutions between
            the blocks and the upsampler adapt ("fully quantized").
        rounding_gradient: ``identity`` (straight-through) or ``tanh`` (QuantSR), of weights and activations.
    """

    weight: WeightOptions = field(default_factory=WeightOptions)
    activation: ActivationOptions = field(default_factory=ActivationOptions)
    layers: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    scope: str = 'body'
    rounding_gradient: str = 'identity'

    def __post_init__(self) -> None:
        check_choice('quantization.scope', self.scope, SCOPES)
        check_choice('quantization.rounding_gradient', self.rounding_gradient, GRADIENTS)

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

        activation = replace(self.activation, bits=bits(self.activation.bits), bits_range=(END_BITS, END_BITS))
        return replace(self, weight=replace(self.weight, bits=bits(self.weight.bits)), activation=activation)

    @classmethod
    def from_dict(cls, given: Mapping | None) -> QuantizationOptions:
        """Read the section, refusing unknown keys and impossible values.

        Raises:
            DynqError: Names the key and what it may be.
        """
        check_keys('network_g.quantization', given, [item.name for item in fields(cls)])
        given = dict(given or {})
        for key, part in (('weight', WeightOptions), ('activation', ActivationOptions)):
            values = given.get(key) or {}
            check_keys(f'network_g.quantization.{key}', values, [item.name for item in fields(part)])
            given[key] = part(**values)
        for key in ('layers', 'exclude'):
            patterns = given.get(key) or ()
            patterns = (patterns,) if isinstance(patterns, str) else patterns
            if not isinstance(patterns, list | tuple) or not all(isinstance(pattern, str) for pattern in patterns):
                raise DynqError(f'network_g.quantization.{key}: must be a list of patterns, not {patterns!r}.')
            given[key] = tuple(patterns)
        return cls(**given)
