"""Which rule sets the clipping ranges in calibration; the keys stand in AdaBM's ``train`` section itself."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from dynq_basicsr.config.section import Section
from dynq_basicsr.config.values import Number


class RangeOptions(Section):
    """The rules for weights and activations, and their numbers."""

    section: ClassVar[str] = 'train'

    weight_range: Literal['omse', 'minmax', 'percentile'] = Field(
        'omse', description='Rule for weights: least squared error, minimum and maximum, or percentile.'
    )
    activation_range: Literal['minmax', 'percentile', 'density'] = Field(
        'minmax', description="Rule for activations; density: PTQ4SR's DBDC. Wants bit_aware_clipping: false."
    )
    percentile: Annotated[Number, Field(ge=0, le=49)] = Field(
        1.0, description='Percent of the values that the rule percentile cuts off at each end.'
    )
    density_mass: Annotated[Number, Field(ge=0, le=0.5)] = Field(
        1e-4, description='Fraction of the values that the rule density cuts off at most.'
    )
