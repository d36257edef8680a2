"""``network_g.policy``: who decides the bits. Options of a plug-in's policy are those of its constructor."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.quantization import FLOAT_BITS, ActivationOptions
from dynq_basicsr.config.section import Section
from dynq_basicsr.config.values import Fraction, LayerBits, Number, Switch, Text, Whole, or_empty

# Smallest distance between neighbouring quantiles of entropy.
QUANTILE_GAP = 0.01

Percentile = Annotated[Number, Field(ge=0, le=49)]


def _ascends(values: tuple[float, ...]) -> bool:
    return list(values) == sorted(set(values))


class FixedOptions(Section):
    """The same bits for every image and layer."""

    section: ClassVar[str] = 'network_g.policy'

    type: Literal['Fixed'] = Field('Fixed', description='Every layer gets the base bits.')


class AdaBMPolicyOptions(Section):
    """Base bits plus an image factor plus a layer factor (AdaBM, Hong and Lee, CVPR 2024)."""

    section: ClassVar[str] = 'network_g.policy'

    type: Literal['AdaBM'] = Field('AdaBM', description='Bits follow the image and the layer.')
    image_to_bit: Switch = Field(True, description='Whether images get factors; false: each gets 0.')
    layer_to_bit: Switch = Field(True, description='Whether layers get factors; false: each gets 0.')
    image_factors: tuple[Annotated[Whole, Field(ge=-8, le=8)], ...] = Field(
        (-1, 0, 1), min_length=2, description='Ascending bits that images are given or taken, flattest images first.'
    )
    image_percentile: Percentile = Field(
        10, description='Percentile of calibration images that get the lowest factor, and likewise the highest.'
    )
    layer_percentile: Percentile = Field(30, description='The same for the sensitivities of layers.')

    @model_validator(mode='after')
    def _check(self) -> Self:
        if not _ascends(self.image_factors):
            raise wrong('image_factors', f'give at least two ascending factors, not {list(self.image_factors)}.')
        return self


class GranularDQPolicyOptions(Section):
    """A gate on the shallow feature, then the entropy of patches (Granular-DQ, Wang et al., AAAI 2025)."""

    section: ClassVar[str] = 'network_g.policy'

    type: Literal['GranularDQ'] = Field('GranularDQ', description='One bit-width a patch, for all layers.')
    granularity_bits: tuple[LayerBits, ...] = Field(
        (4, 6, 8), min_length=1, description='Ascending candidates of the controller; a single one switches it off.'
    )
    entropy_bits: or_empty(tuple[LayerBits, ...], ()) = Field(
        (4, 5, 8), description='Ascending candidates for the patches with the most bits; none: entropy decides nothing.'
    )
    entropy_quantiles: or_empty(tuple[Fraction, ...], ()) = Field(
        (0.5, 0.9), description="Ascending quantiles of the training set's entropies, one fewer than entropy_bits."
    )
    granularities: Annotated[Whole, Field(ge=1, le=8)] = Field(
        3, description='How many granularities the controller looks at.'
    )
    adaptive_thresholds: Switch = Field(
        True, description='Whether thresholds follow the batches of the first epoch (ATC).'
    )
    threshold_momentum: Fraction = Field(0.9997, description='What a threshold keeps of itself in an iteration.')
    temperature: Annotated[Number, Field(ge=1e-3)] = Field(1.0, description='Of the Gumbel-softmax in training.')

    @property
    def candidates(self) -> tuple[int, ...]:
        """Bits that it can choose: the controller's most bits only where entropy hands them out."""
        lower = self.granularity_bits[:-1] if self.entropy_bits else self.granularity_bits
        return tuple(sorted({*lower, *self.entropy_bits}))

    def conflict(self, activation: ActivationOptions) -> str:
        """What keeps it from deciding the bits of these activations: a sentence; empty: nothing."""
        if activation.bits == FLOAT_BITS:
            return 'activations are float (quantization.activation.bits: 32), so there are no bits to decide; give 8.'
        low, high = activation.bits_range
        if not low <= self.candidates[0] <= self.candidates[-1] <= high:
            return (
                f'bits {list(self.candidates)} are not all within network_g.quantization.activation.bits_range, '
                f'{[low, high]}; change either.'
            )
        return ''

    @model_validator(mode='after')
    def _check(self) -> Self:
        for key in ('granularity_bits', 'entropy_bits'):
            if not _ascends(getattr(self, key)):
                raise wrong(key, f'give ascending bits from 2 to 8, not {list(getattr(self, key))}.')
        if self.entropy_bits:
            given, count = self.entropy_quantiles, len(self.entropy_bits) - 1
            apart = all(upper - lower >= QUANTILE_GAP for lower, upper in zip(given, given[1:], strict=False))
            if len(given) != count or not apart:
                raise wrong(
                    'entropy_quantiles',
                    f'give {count}, one fewer than entropy_bits, ascending and at least {QUANTILE_GAP} apart, '
                    f'not {list(given)}.',
                )
        return self


class OtherPolicyOptions(Section):
    """A policy of a plug-in; its constructor says which further options it takes."""

    model_config = ConfigDict(extra='allow')
    section: ClassVar[str] = 'network_g.policy'

    type: Text = Field(description='Name that the policy is registered under.')
