"""``network_g``: a backbone, what is quantized of it, and who decides the bits."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import Self

from dynq_basicsr.config.policies import (
    AdaBMPolicyOptions,
    FixedOptions,
    GranularDQPolicyOptions,
    OtherPolicyOptions,
)
from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.quantization import QuantizationOptions
from dynq_basicsr.config.section import AsRegistered, Section, by_type
from dynq_basicsr.config.values import Count, Number, Text, or_empty

Policy = by_type(FixedOptions, AdaBMPolicyOptions, GranularDQPolicyOptions, other=OtherPolicyOptions)


def _or_fixed(value: Any) -> Any:
    return {'type': 'Fixed'} if value is None or value == {} else value


class BackboneOptions(Section):
    """A registered architecture; its constructor says which further options it takes."""

    model_config = ConfigDict(extra='allow')
    section: ClassVar[str] = 'network_g.backbone'

    type: Text = Field(description="Name of a registered architecture: BasicSR's, ours, or a plug-in's.")


class QuantizedNetworkOptions(Section):
    """A backbone with quantized layers."""

    section: ClassVar[str] = 'network_g'

    type: Annotated[Literal['QuantizedSR'], AsRegistered] = Field(description='A backbone with quantized layers.')
    backbone: BackboneOptions | None = Field(
        None, description='The float network; null: that of the quantized checkpoint in path.pretrain_network_g.'
    )
    quantization: or_empty(QuantizationOptions) = Field(
        QuantizationOptions(), description='What is quantized, and how; nothing said: nothing is.'
    )
    policy: Annotated[Policy, BeforeValidator(_or_fixed, json_schema_input_type=Policy | None)] = Field(
        FixedOptions(), description='Who decides the bits of activations.'
    )
    value_range: Annotated[Number, Field(gt=0)] | None = Field(
        None, description='Value of white that the backbone works with, as 1 or 255; null: found by trying.'
    )
    output: Count | Text | None = Field(
        None, description='Index or key of the image in what the backbone returns; null: found by trying.'
    )

    @model_validator(mode='after')
    def _check(self) -> Self:
        if isinstance(self.policy, GranularDQPolicyOptions) and self.quantization.enabled:
            if conflict := self.policy.conflict(self.quantization.activation):
                raise wrong('policy', conflict)
        return self


class FloatNetworkOptions(Section):
    """Any other registered architecture, as it is; its constructor says which options it takes."""

    model_config = ConfigDict(extra='allow')
    section: ClassVar[str] = 'network_g'

    type: Text = Field(description='Name of a registered architecture, to be run in float.')


Network: Any = by_type(QuantizedNetworkOptions, other=FloatNetworkOptions)
