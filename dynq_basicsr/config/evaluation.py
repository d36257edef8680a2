"""``val``: how networks are evaluated."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import Self

from dynq_basicsr.config.problems import wrong
from dynq_basicsr.config.section import AsRegistered, Section, by_type
from dynq_basicsr.config.values import BatchSize, Count, Name, Number, Positive, Switch, Text
from dynq_basicsr.imaging.patch_grid import TilingOptions

Side = Annotated[Number, Field(ge=1)]


class MetricOptions(Section):
    """What every metric has."""

    section: ClassVar[str] = 'val.metrics'

    better: Literal['higher', 'lower'] = Field('higher', description='Which value counts as the best of a training.')


class FidelityOptions(MetricOptions):
    """BasicSR's comparison of 8-bit images with the ground truth."""

    type: Annotated[Literal['calculate_psnr', 'calculate_ssim'], AsRegistered] = Field(
        description='PSNR, dB, or structural similarity.'
    )
    crop_border: Count = Field(description='Pixels at each border that do not count.')
    input_order: Literal['HWC'] = Field('HWC', description="BasicSR's; images are as it expects them.")
    test_y_channel: Switch = Field(False, description='Whether luma alone is compared.')


class FABOptions(MetricOptions):
    """The feature average bit-width (AdaBM, CADyQ)."""

    type: Annotated[Literal['calculate_fab'], AsRegistered] = Field(description='Mean bits of the adaptive layers.')
    weighting: Literal['patch', 'area'] = Field('patch', description='Patches count alike, or by their area.')


class BitOPsOptions(MetricOptions):
    """The cost of an image, in tera."""

    type: Annotated[Literal['calculate_bitops'], AsRegistered] = Field(
        description='Sum over layers of 2 * MACs * weight bits * activation bits.'
    )
    resolution: tuple[Side, Side] | None = Field(
        None,
        description="[width, height] of the output that the cost is told for, at each image's bits; null: its own.",
    )
    part: Literal['total', 'quantized', 'float'] = Field('total', description='All layers, the quantized, or the rest.')


class OtherMetricOptions(MetricOptions):
    """Another registered metric; its function says which further options it takes."""

    model_config = ConfigDict(extra='allow')

    type: Text = Field(description='Name of a registered metric.')


Metric: Any = by_type(FidelityOptions, FABOptions, BitOPsOptions, other=OtherMetricOptions)


class ValOptions(Section):
    """Patches, metrics and pictures."""

    section: ClassVar[str] = 'val'

    val_freq: Positive = Field(None, description='Iterations of a training between two validations.')
    save_img: Switch = Field(None, description='Whether result images are saved.')
    suffix: Name | None = Field(
        None, description="What a test adds to the names of result images; null: the run's name."
    )
    pbar: Switch = Field(True, description="BasicSR's; has no effect here.")
    metrics: dict[Text, Metric] | None = Field(None, description='Metrics by the names that they are shown by.')
    bit_maps: Switch = Field(False, description='Whether a picture of the bits is saved beside each result.')
    patch_size: Positive | None = Field(96, description='Side of a patch, LR pixels; null: whole images.')
    patch_step: Positive | None = Field(
        None, description='LR pixels from patch to patch; below patch_size, patches overlap; null: they touch.'
    )
    patch_batch: BatchSize = Field(4, description='Patches of one size that run together.')
    patch_merge: Literal['average', 'split'] = Field(
        'average', description='Average overlaps (AdaBM), or split them in the middle (CADyQ, Granular-DQ).'
    )

    @model_validator(mode='after')
    def _check(self) -> Self:
        if self.patch_size and self.patch_step and self.patch_step > self.patch_size:
            raise wrong('patch_step', f'{self.patch_step} leaves gaps between patches of {self.patch_size}.')
        return self

    @property
    def tiling(self) -> TilingOptions:
        """Where patches lie and how they merge."""
        return TilingOptions(self.patch_size, self.patch_step, self.patch_batch, self.patch_merge)
